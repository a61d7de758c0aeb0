/** The messages of the system name no more than an address. */
const OF_THE_SYSTEM = /^(?:connect|getaddrinfo|read|write) [A-Z_]+(?: [\w.:-]+)?/

/** What the system says of a connection, of each address of a host; `undefined` where it is not of the system. */
export function messageOfSystem (error: Error): string | undefined {
  const { errors = [error] } = error as Error & { errors?: Error[] }
  const messages = errors.map(({ message }) => OF_THE_SYSTEM.exec(message)?.[0]).filter((message) => message !== undefined)
  return messages.length === 0 ? undefined : messages.join(', ')
}
