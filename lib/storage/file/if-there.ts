/** The result of an operation on a file or directory, `undefined` if that is not there. */
export async function ifThere<Result> (work: Promise<Result>): Promise<Result | undefined> {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
