/** What is used of jStat, which comes without types. */
declare module 'jstat' {
  const jstat: {
    readonly studentt: {
      /** The quantile `p` of Student's t with `dof` degrees of freedom. */
      inv(p: number, dof: number): number;
    };
  };
  export default jstat;
}
