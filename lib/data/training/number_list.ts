// Whole numbers in a list that grows: 4 bytes each, for what is kept of every image of millions.

/** Numbers from 0 to 2³² − 1, by position. */
export class NumberList {
  length = 0;
  #array = new Uint32Array(1024);

  /** Adds one at the end. @returns its position */
  push(value: number): number {
    if (this.length === this.#array.length) {
      const longer = new Uint32Array(2 * this.length);
      longer.set(this.#array);
      this.#array = longer;
    }
    this.#array[this.length] = value;
    return this.length++;
  }

  /** @throws {RangeError} If there is none */
  at(position: number): number {
    this.#check(position);
    return this.#array[position];
  }

  /** @throws {RangeError} If there is none to replace */
  set(position: number, value: number): void {
    this.#check(position);
    this.#array[position] = value;
  }

  #check(position: number) {
    if (position >= 0 && position < this.length) return;
    throw new RangeError(`Cannot find number ${position} of a list: it has ${this.length}`);
  }
}
