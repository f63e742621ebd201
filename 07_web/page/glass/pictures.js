// Pictures: numbers as colours, on canvases. The colours are those of the page, light or dark.

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const known = new Map(); // colour -> its channels: to ask a canvas takes longer than to paint one

// "#rrggbb", or a colour in any other form -> [red, green, blue]
function channels(colour) {
  if (!known.has(colour)) known.set(colour, readBack(colour));
  return known.get(colour);
}

function readBack(colour) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

// Weights (size, size), 0 to 1, as a square: a point for each.
export function paintMap(canvas, weights, size) {
  const picture = new ImageData(size, size);
  const colour = channels(colourOf("accent"));
  for (let n = 0; n < weights.length; n++) {
    picture.data.set(colour, 4 * n);
    picture.data[4 * n + 3] = 255 * Math.sqrt(weights[n]); // so that small weights can be seen
  }
  put(canvas, picture);
}

// A matrix (rows, columns) as stripes: below zero in one colour, above in another, 0 is empty.
// `least`: the size of the full colour, if no number is as large.
export function paintStripes(canvas, numbers, rows, columns, least = 0) {
  const largest = numbers.reduce((most, each) => Math.max(most, Number.isFinite(each) ? Math.abs(each) : 0), least) || 1;
  const [above, below] = [channels(colourOf("above")), channels(colourOf("below"))];
  const picture = new ImageData(columns, rows);
  for (let n = 0; n < numbers.length; n++) {
    picture.data.set(numbers[n] < 0 ? below : above, 4 * n);
    picture.data[4 * n + 3] = 255 * Math.sqrt(Math.min(1, Math.abs(numbers[n]) / largest));
  }
  put(canvas, picture);
}

// A size that is given anew, even the same one, makes a new canvas of it.
function put(canvas, picture) {
  for (const side of ["width", "height"]) if (canvas[side] !== picture[side]) canvas[side] = picture[side];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
