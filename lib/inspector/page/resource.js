/** How long after a failure it is asked for again, in milliseconds. */
const RETRY = 2000

/**
 * What is asked of the server, again whenever there may be news of it, and never twice at once.
 *
 * @template Value
 */
export class Resource {
  /** @type {Value | undefined} */
  value
  /** @type {string | undefined} why there is no value */
  problem
  /** when it was there, as `performance.now` has it */
  at = 0
  #url
  #onChange
  /** @type {unknown} */
  #version
  #isLoading = false

  /**
   * @param {string} path below the page
   * @param {(before: Value | undefined, value: Value | undefined) => void} onChange
   */
  constructor (path, onChange) {
    this.#url = new URL(`../${path}`, import.meta.url)
    this.#onChange = onChange
  }

  /**
   * @param {unknown} version changes whenever there is news
   * @param {number} maxAge after which there may be news all the same, in milliseconds
   */
  load (version, maxAge = Infinity) {
    const isOld = performance.now() - this.at > (this.problem === undefined ? maxAge : RETRY)
    if (this.#isLoading || (this.#version === version && !isOld)) return
    this.#version = version
    this.#isLoading = true
    this.#fetch().finally(() => { this.#isLoading = false })
  }

  async #fetch () {
    const before = this.value
    try {
      const response = await fetch(this.#url)
      const body = await response.json()
      this.value = response.ok ? body : undefined
      this.problem = response.ok ? undefined : `${body.code ?? response.status}: ${body.message}`
    } catch (error) {
      this.value = undefined
      this.problem = error instanceof SyntaxError ? 'The server answered something else than JSON.' : 'The server does not answer.'
    }
    this.at = performance.now()
    this.#onChange(before, this.value)
  }
}
