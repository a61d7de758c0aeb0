/** A module of the inspector's page that needs no browser. */
export async function pageModule<Module> (name: string): Promise<Module> {
  return import(new URL(`../../lib/inspector/page/${name}.js`, import.meta.url).href) as Promise<Module>
}
