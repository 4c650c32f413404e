/** Its own types for this entry do not resolve. */
declare module 'msgpackr/pack' {
  export { Packr } from 'msgpackr';
}
