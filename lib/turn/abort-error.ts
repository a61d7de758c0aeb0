/** Why a signal is aborted that no error of this package stands for, with the name and code that Node gives such errors. */
export function abortError (message: string): Error {
  return Object.assign(new Error(message), { name: 'AbortError', code: 'ABORT_ERR' })
}
