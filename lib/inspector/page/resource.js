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
  #url
  #onChange
  /** @type {unknown} */
  #version
  #isLoading = false

  /**
   * @param {string} path below the page
   * @param {(before: Value | undefined, value: Value) => void} onChange
   */
  constructor (path, onChange) {
    this.#url = new URL(`../${path}`, import.meta.url)
    this.#onChange = onChange
  }

  /** @param {unknown} version changes whenever there may be news */
  load (version) {
    if (this.#isLoading || this.#version === version) return
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
    } catch {
      this.value = undefined
      this.problem = 'The server does not answer.'
    }
    this.#onChange(before, /** @type {Value} */ (this.value))
  }
}
