export { failNext } from './fail-next.js'
export { type GivenState, given } from './given.js'
export { type Account, type Said, type Talk, type TalkOptions, talk } from './talk.js'
export type { Talker, TestedApp } from './tested-app.js'
