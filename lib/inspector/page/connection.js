/** @import { News } from '../inspected-turns.js' */

/** How long after the server has refused a page it is asked again, in milliseconds: a browser does that by itself only where nobody answers. */
const RETRY = 1000

/**
 * Listens to the server, for as long as the page is visible: a browser opens six connections to one server, over all pages.
 *
 * @param {object} listener
 * @param {(server: { server: string, limits: { turns: number, seen: number } }) => void} listener.begin everything is told anew
 * @param {(news: News) => void} listener.news
 * @param {(isLive: boolean) => void} listener.live
 */
export function listen ({ begin, news, live }) {
  /** @type {EventSource | undefined} */
  let source

  function open () {
    source?.close()
    source = undefined
    live(false)
    if (document.hidden) return
    source = new EventSource(new URL('../events', import.meta.url))
    source.addEventListener('begin', ({ data }) => {
      begin(JSON.parse(data))
      live(true)
    })
    source.addEventListener('news', ({ data }) => news(JSON.parse(data)))
    source.addEventListener('error', ({ target }) => {
      live(false)
      if (target === source && source?.readyState === EventSource.CLOSED) setTimeout(open, RETRY)
    })
  }

  document.addEventListener('visibilitychange', open)
  open()
}
