// Slices of a volume on canvases. Places are [x, y, z] in angstrom from the specimen centre, voxel floor(n / 2) of each side.
// Picture pixel and voxel are one: voxel i of an axis fills i .. i + 1, its centre lies at i + 0.5; the up axis is drawn upwards.

export const PLANES = {
  xy: { across: 0, up: 1, through: 2 },
  xz: { across: 0, up: 2, through: 1 },
  zy: { across: 2, up: 1, through: 0 },
};
const NAMES = "xyz";
const MOST_HELD = 96;
const AHEAD = 3;

/** The grid of a volume: {size: [x, y, z] voxels, voxel: angstrom}. */
export const toIndex = (place, volume) => place.map((v, i) => v / volume.voxel + Math.floor(volume.size[i] / 2));
export const toPlace = (index, volume) => index.map((v, i) => (v - Math.floor(volume.size[i] / 2)) * volume.voxel);

/** One slice: a picture below, and a canvas over it on which painters draw; the upper one takes the keyboard and the pointer. */
export class Slice {
  /**
   * @param holder element that is filled
   * @param plane "xy", "xz" or "zy"
   * @param addressOf (plane, index) => address of the picture
   */
  constructor(holder, plane, volume, addressOf) {
    Object.assign(this, { holder, plane, volume, addressOf, ...PLANES[plane] });
    this.index = Math.floor(volume.size[this.through] / 2);
    this.scale = 1;
    this.painters = [];
    this.pictures = new Map();
    this.base = document.createElement("canvas");
    this.base.setAttribute("aria-hidden", "true");
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    holder.replaceChildren(this.base, this.canvas);
    this.resize(1);
  }

  get columns() { return this.volume.size[this.across]; }
  get rows() { return this.volume.size[this.up]; }
  get count() { return this.volume.size[this.through]; }

  /** Pixels of the page for each voxel. */
  resize(scale) {
    this.scale = scale;
    const sharp = window.devicePixelRatio || 1;
    for (const canvas of [this.base, this.canvas]) {
      canvas.width = Math.max(1, Math.round(this.columns * scale * sharp));
      canvas.height = Math.max(1, Math.round(this.rows * scale * sharp));
      canvas.style.width = `${this.columns * scale}px`;
      canvas.style.height = `${this.rows * scale}px`;
    }
    this.holder.style.width = `${this.columns * scale}px`;
    this.holder.style.height = `${this.rows * scale}px`;
    this.draw();
  }

  /** Brings another slice; the old one stays until the new picture is there. */
  show(index) {
    this.index = Math.min(Math.max(Math.round(index), 0), this.count - 1);
    this.draw();
    for (let i = 1; i <= AHEAD; i++) for (const next of [this.index + i, this.index - i]) {
      if (next >= 0 && next < this.count) this.picture(next);
    }
  }

  /** The picture of a slice, asked for where it is not held. */
  picture(index) {
    const address = this.addressOf(this.plane, index);
    let held = this.pictures.get(address);
    if (held) this.pictures.delete(address);
    else {
      held = new Image();
      held.onload = () => { if (this.addressOf(this.plane, this.index) === address) this.draw(); };
      held.src = address;
    }
    this.pictures.set(address, held);
    if (this.pictures.size > MOST_HELD) this.pictures.delete(this.pictures.keys().next().value);
    return held;
  }

  draw() {
    const picture = this.picture(this.index);
    const ready = picture.complete && picture.naturalWidth > 0;
    if (ready) {
      const context = this.base.getContext("2d");
      context.imageSmoothingEnabled = this.scale < 2;
      // voxels a pixel: large slices come in blocks, the last of which may reach beyond the volume
      const wide = this.columns >= this.rows;
      const block = Math.round(wide ? this.columns / picture.naturalWidth : this.rows / picture.naturalHeight);
      const [width, height] = [picture.naturalWidth * block, picture.naturalHeight * block];
      const [x, y] = [this.base.width / this.columns, this.base.height / this.rows];
      context.drawImage(picture, 0, (this.rows - height) * y, width * x, height * y);
    }
    this.canvas.dataset.shown = ready ? `${this.index}` : "";
    this.paint();
  }

  /** What lies over the picture, anew. */
  paint() {
    const context = this.canvas.getContext("2d");
    const sharp = window.devicePixelRatio || 1;
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const painter of this.painters) {
      context.save();
      painter(context, this);
      context.restore();
    }
  }

  /** Pixel of the page, from the canvas's upper left corner, of a place. */
  toPixel(place) {
    const index = toIndex(place, this.volume);
    return [(index[this.across] + 0.5) * this.scale, (this.rows - index[this.up] - 0.5) * this.scale];
  }

  /** The place in the plane of this slice under a pointer; may lie outside of the volume by half a voxel. */
  placeAt(event) {
    const frame = this.canvas.getBoundingClientRect();
    const index = [0, 0, 0];
    index[this.across] = ((event.clientX - frame.left) * this.columns) / frame.width - 0.5;
    index[this.up] = this.rows - ((event.clientY - frame.top) * this.rows) / frame.height - 0.5;
    index[this.through] = this.index;
    return toPlace(index, this.volume);
  }

  /** Angstrom from the plane of this slice to a place, positive on the side of larger coordinates. */
  distance(place) {
    return place[this.through] - (this.index - Math.floor(this.volume.size[this.through] / 2)) * this.volume.voxel;
  }

  /** In words. */
  get words() {
    const name = NAMES[this.through];
    return `Slice ${this.plane === "zy" ? "yz" : this.plane} at ${name} ${Math.round(this.distance([0, 0, 0]) * -1)} angstrom`;
  }
}

/** The three slices through one place: moving one moves the others. */
export class Slices {
  /**
   * @param holders {xy, xz, zy}: elements
   * @param volume {size, voxel}
   * @param addressOf (plane, index) => address
   */
  constructor(holders, volume, addressOf) {
    this.volume = volume;
    this.place = [0, 0, 0];
    this.onmove = () => {};
    this.all = Object.entries(holders).map(([plane, holder]) => new Slice(holder, plane, volume, addressOf));
    for (const slice of this.all) {
      slice.painters.push((context) => this.#cross(context, slice));
      slice.canvas.addEventListener("wheel", (event) => this.#wheel(event, slice), { passive: false });
      slice.canvas.addEventListener("keydown", (event) => this.#key(event, slice));
    }
    this.go(this.place);
  }

  get scale() { return this.all[0].scale; }

  /** Pixels of the page for each voxel, of all three. */
  resize(scale) {
    for (const slice of this.all) slice.resize(Math.min(Math.max(scale, 0.1), 12));
  }

  /** To a place, within the volume. */
  go(place) {
    const index = toIndex(place, this.volume).map((v, i) => Math.min(Math.max(Math.round(v), 0), this.volume.size[i] - 1));
    this.place = toPlace(index, this.volume);
    for (const slice of this.all) slice.show(index[slice.through]);
    this.onmove(this.place, index);
  }

  /** By some voxels along an axis, 0 to 2. */
  step(axis, voxels) {
    const place = [...this.place];
    place[axis] += voxels * this.volume.voxel;
    this.go(place);
  }

  paint() { for (const slice of this.all) slice.paint(); }

  /** Black and white of the pictures, by CSS. */
  look(contrast, brightness) {
    for (const slice of this.all) slice.base.style.filter = `brightness(${brightness}) contrast(${contrast})`;
  }

  #cross(context, slice) {
    const [x, y] = slice.toPixel(this.place);
    const [w, h] = [slice.columns * slice.scale, slice.rows * slice.scale];
    context.strokeStyle = "rgba(86, 180, 233, 0.75)";
    context.lineWidth = 1;
    context.beginPath();
    for (const [a, b, c, d] of [[0, y, x - 9, y], [x + 9, y, w, y], [x, 0, x, y - 9], [x, y + 9, x, h]]) {
      context.moveTo(a, b);
      context.lineTo(c, d);
    }
    context.stroke();
  }

  #wheel(event, slice) {
    event.preventDefault();
    if (event.ctrlKey) this.resize(this.scale * (event.deltaY < 0 ? 1.15 : 1 / 1.15));
    else this.step(slice.through, event.deltaY < 0 ? 1 : -1);
  }

  #key(event, slice) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1;
    const steps = {
      ArrowLeft: [slice.across, -far], ArrowRight: [slice.across, far],
      ArrowDown: [slice.up, -far], ArrowUp: [slice.up, far],
      PageDown: [slice.through, -far], PageUp: [slice.through, far],
      ",": [slice.through, -1], ".": [slice.through, 1],
    };
    if (event.key in steps) this.step(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") this.resize(this.scale * 1.25);
    else if (event.key === "-") this.resize(this.scale / 1.25);
    else return;
    event.preventDefault();
  }
}
