// Pictures as points: near each other where the detector sees them alike, with the picture itself under the pointer.
//
// data: { id, places, kinds, captions, groups, sheet, tile, columns, alt, chosen }
//   places: base64 of float32 pairs in [0, 1].  kinds: base64 of uint8, an index into groups a point.
//   groups: [{ label, colour, shape, hollow }].  captions: text a point.  sheet: data URL of all thumbnails.
// Arrow keys walk from point to point; a click or Enter triggers `picked` with the point's index.

const instances = new WeakMap()
const MARGIN = 18
const REACH = 16 // how near, in CSS pixels, the pointer must come to a point

const SHAPES = {
  circle: (pen, r) => pen.arc(0, 0, r, 0, 7),
  square: (pen, r) => pen.rect(-0.9 * r, -0.9 * r, 1.8 * r, 1.8 * r),
  triangle: (pen, r) => polygon(pen, [[0, -1.25 * r], [1.15 * r, 0.85 * r], [-1.15 * r, 0.85 * r]]),
  down: (pen, r) => polygon(pen, [[0, 1.25 * r], [1.15 * r, -0.85 * r], [-1.15 * r, -0.85 * r]]),
  diamond: (pen, r) => polygon(pen, [[0, -1.3 * r], [1.1 * r, 0], [0, 1.3 * r], [-1.1 * r, 0]]),
  plus: (pen, r) => {
    const a = 0.42 * r, b = 1.25 * r
    polygon(pen, [[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]])
  },
}

function polygon(pen, corners) {
  pen.moveTo(...corners[0])
  for (const corner of corners.slice(1)) pen.lineTo(...corner)
  pen.closePath()
}

function mark(pen, x, y, r, group, ink) {
  pen.save()
  pen.translate(x, y)
  pen.beginPath()
  SHAPES[group.shape](pen, r)
  pen.lineWidth = group.hollow ? 0.4 * r : 0.16 * r
  pen.strokeStyle = group.hollow ? group.colour : ink
  pen.fillStyle = group.colour
  if (!group.hollow) pen.fill()
  pen.stroke()
  pen.restore()
}

function decode(text, Type) {
  return new Type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer)
}

class Scatter {
  constructor(root) {
    this.find = (selector) => root.querySelector(selector)
    this.canvas = this.find(".points")
    this.at = -1
    this.observer = new ResizeObserver(() => this.draw())
    this.observer.observe(this.canvas)
    this.listen()
  }

  update(data, trigger) {
    this.trigger = trigger
    if (this.data?.id !== data.id) {
      this.places = decode(data.places, Float32Array)
      this.kinds = decode(data.kinds, Uint8Array)
      const order = [...this.kinds.keys()]
      this.across = order.toSorted((i, j) => this.places[2 * i] - this.places[2 * j])
      this.down = order.toSorted((i, j) => this.places[2 * i + 1] - this.places[2 * j + 1])
      this.sheet = new Image()
      this.sheet.onload = () => this.draw()
      this.sheet.src = data.sheet
      this.at = -1
    }
    this.data = data
    this.canvas.setAttribute("aria-label", data.alt)
    this.draw()
    this.legend()
  }

  legend() {
    const items = this.data.groups.map((group) => {
      const item = document.createElement("li"), canvas = document.createElement("canvas")
      canvas.width = canvas.height = 32
      canvas.setAttribute("aria-hidden", "true")
      mark(canvas.getContext("2d"), 16, 16, 10, group, this.ink)
      item.append(canvas, document.createTextNode(group.label))
      return item
    })
    this.find(".legend").replaceChildren(...items)
  }

  place(i) {
    const dots = window.devicePixelRatio || 1, margin = MARGIN * dots
    return [
      margin + (this.canvas.width - 2 * margin) * this.places[2 * i],
      margin + (this.canvas.height - 2 * margin) * this.places[2 * i + 1],
    ]
  }

  draw() {
    if (!this.data) return
    const canvas = this.canvas, dots = window.devicePixelRatio || 1
    this.ink = getComputedStyle(canvas).color
    const width = Math.round(canvas.clientWidth * dots), height = Math.round(canvas.clientHeight * dots)
    if (!width) return
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
    const pen = canvas.getContext("2d")
    pen.clearRect(0, 0, width, height)
    pen.globalAlpha = 0.85
    for (let i = 0; i < this.kinds.length; i++) mark(pen, ...this.place(i), 5 * dots, this.data.groups[this.kinds[i]], this.ink)
    pen.globalAlpha = 1
    for (const i of new Set([this.data.chosen ?? -1, this.at])) if (i >= 0 && i < this.kinds.length) this.ring(pen, i, dots)
    this.tip()
  }

  ring(pen, i, dots) {
    pen.lineWidth = 2 * dots
    pen.strokeStyle = this.ink
    pen.beginPath()
    pen.arc(...this.place(i), 10 * dots, 0, 7)
    pen.stroke()
  }

  tip() {
    const tip = this.find(".tip"), { tile, columns, captions } = this.data
    tip.hidden = this.at < 0
    if (this.at < 0) return
    const pen = tip.querySelector("canvas").getContext("2d")
    pen.clearRect(0, 0, 128, 128)
    const column = this.at % columns, row = Math.floor(this.at / columns)
    pen.drawImage(this.sheet, column * tile, row * tile, tile, tile, 0, 0, 128, 128)
    const output = tip.querySelector("output")
    if (output.textContent !== captions[this.at]) output.textContent = captions[this.at]
    const dots = window.devicePixelRatio || 1, [x, y] = this.place(this.at).map((value) => value / dots)
    const right = x + 16 + tip.offsetWidth < this.canvas.clientWidth
    tip.style.left = `${Math.max(0, right ? x + 16 : x - 16 - tip.offsetWidth)}px`
    tip.style.top = `${Math.max(0, Math.min(y - 20, this.canvas.clientHeight - tip.offsetHeight))}px`
  }

  nearest(event) {
    const box = this.canvas.getBoundingClientRect(), dots = window.devicePixelRatio || 1
    const x = (event.clientX - box.left) * dots, y = (event.clientY - box.top) * dots
    let best = -1, distance = (REACH * dots) ** 2
    for (let i = 0; i < this.kinds.length; i++) {
      const [u, v] = this.place(i), d = (u - x) ** 2 + (v - y) ** 2
      if (d < distance) [best, distance] = [i, d]
    }
    return best
  }

  go(i) {
    if (i === this.at) return
    this.at = i
    this.draw()
  }

  listen() {
    const canvas = this.canvas
    canvas.onpointermove = (event) => this.go(this.nearest(event))
    canvas.onpointerleave = (event) => event.pointerType === "touch" || this.go(-1)
    canvas.onblur = () => this.go(-1)
    canvas.onclick = (event) => {
      const i = this.nearest(event)
      this.go(i)
      if (i >= 0) this.trigger("picked", i)
    }
    canvas.onkeydown = (event) => {
      const along = { ArrowLeft: [this.across, -1], ArrowRight: [this.across, 1], ArrowUp: [this.down, -1], ArrowDown: [this.down, 1] }
      if (event.key === "Escape") this.go(-1)
      if (event.key === "Enter" && this.at >= 0) this.trigger("picked", this.at)
      if (!along[event.key] || !this.kinds.length) return
      event.preventDefault()
      const [order, step] = along[event.key], n = order.length
      this.go(this.at < 0 ? order[step > 0 ? 0 : n - 1] : order[(order.indexOf(this.at) + step + n) % n])
    }
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  let scatter = instances.get(parentElement)
  if (!scatter) {
    scatter = new Scatter(parentElement)
    instances.set(parentElement, scatter)
  }
  scatter.update(data, setTriggerValue)
  return () => {
    scatter.observer.disconnect()
    instances.delete(parentElement)
  }
}
