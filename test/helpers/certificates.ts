import { fileURLToPath } from 'node:url'

/** Who signed it: nobody trusts that authority who was not told to. */
export const authorityPath = fileURLToPath(new URL('../certificates/authority.pem', import.meta.url))
/** The certificate and the key of a server at localhost and 127.0.0.1. */
export const certificatePath = fileURLToPath(new URL('../certificates/localhost.pem', import.meta.url))
