/** Who stands in a line. */
export interface LineMember {
  /** It has become the first one. */
  first(): void
}

/** Lines in this process, by what they are for: in each, the turns in the order of their arrival. An empty one takes no memory. */
export class Lines<Member extends LineMember> {
  readonly #lines = new Map<string, Member[]>()

  /** @returns those before it */
  join (key: string, member: Member): Member[] {
    const line = this.#lines.get(key)
    if (line === undefined) {
      this.#lines.set(key, [member])
      return []
    }
    line.push(member)
    return line.slice(0, -1)
  }

  /** Those before a member that has not left. */
  before (key: string, member: Member): Member[] {
    const line = this.#lines.get(key) as Member[]
    return line.slice(0, line.indexOf(member))
  }

  isFirst (key: string, member: Member): boolean {
    return this.#lines.get(key)?.[0] === member
  }

  /** The next one becomes the first, if it was. */
  leave (key: string, member: Member): void {
    const line = this.#lines.get(key) ?? []
    const index = line.indexOf(member)
    if (index < 0) return
    line.splice(index, 1)
    if (line.length === 0) this.#lines.delete(key)
    else if (index === 0) line[0]?.first()
  }
}
