import { FST_BOTAS_STATE_INVALID_PATH } from '../errors.js'

/**
 * Makes every assignment to a property of a class's instances throw: sloppy mode would lose it in silence. All state of
 * such a class is in private fields, which this does not touch.
 *
 * @param advice what to do instead, by the name of the property
 */
export function refuseAssignment ({ prototype }: { prototype: object }, advice: (name: string) => string): void {
  const refuse = (name: string | symbol): never => {
    throw new FST_BOTAS_STATE_INVALID_PATH(`"${String(name)}" ${advice(String(name))}`)
  }
  for (const [name, { value, get }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
    Object.defineProperty(prototype, name, { configurable: true, get: get ?? (() => value), set: () => refuse(name) })
  }
  // Names found neither on the instance nor its class end up here.
  Object.setPrototypeOf(prototype, new Proxy(Object.create(Object.prototype), { set: (_target, name) => refuse(name) }))
}
