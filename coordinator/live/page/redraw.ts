/** Draws at most once in each frame of the screen, however often it is asked to; a hidden page draws nothing. */
export class Redraw {
  private asked = false;

  constructor(private readonly draw: () => void) {}

  request(): void {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }
}
