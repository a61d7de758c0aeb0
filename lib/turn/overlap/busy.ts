import { FST_BOTAS_STATE_BUSY } from '../../errors.js'

/** When a client that is refused may ask again, in seconds. */
const RETRY_AFTER = '1'

/** The turn would have to wait for too long. Fastify puts the headers of an error on its reply. */
export function busy (reason: string): Error {
  return Object.assign(new FST_BOTAS_STATE_BUSY(`${reason}; try again later`), { headers: { 'retry-after': RETRY_AFTER } })
}

/** The turn is not to wait. */
export function taken (): Error {
  return Object.assign(new FST_BOTAS_STATE_BUSY('another turn of this conversation is at work'), { statusCode: 409 })
}
