// How a large photograph is computed in windows, as in ruas_jax/photos/sizes.py: every pixel of the result is taken from
// a window that holds all pixels it depends on, so the parts together are the result of the whole image.

export const TILE = 512; // side of a window in pixels

/** The smallest number of equal windows, at most `side` long, that cover an axis. A window reads [start, stop), and
 * [first, last) of its result is kept. */
export function split(length, side, halo) {
  side = Math.max(side, 4 * halo);
  if (length <= side) return [{ start: 0, stop: length, first: 0, last: length }];
  const count = Math.ceil((length - 2 * halo) / (side - 2 * halo));
  side = Math.ceil((length + 2 * halo * (count - 1)) / count);
  const starts = Array.from({ length: count }, (_, index) => Math.floor((index * (length - side)) / (count - 1)));
  const cuts = [0, ...starts.slice(1).map((start, index) => Math.floor((starts[index] + side + start) / 2)), length];
  return starts.map((start, index) => ({ start, stop: start + side, first: cuts[index], last: cuts[index + 1] }));
}

/** The windows of an image, each with its `rows` and `columns`. */
export function windows(height, width, halo) {
  const whole = height * width <= TILE * TILE;
  const [rows, columns] = [height, width].map((length) => split(length, whole ? length : TILE, halo));
  return rows.flatMap((of_rows) => columns.map((of_columns) => ({ rows: of_rows, columns: of_columns })));
}
