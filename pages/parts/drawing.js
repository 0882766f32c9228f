// A region drawn on a photograph: drag a rectangle, click the corners of a polygon, or type the corners as numbers.
//
// data: { photo, width, height, corners: [[x, y], ...], least, most, words, alt }
//   corners in shares of the picture: none = the whole picture, two = a rectangle, three or more = a polygon.
// Nothing is sent while drawing; "saved" carries the corners when the person presses the button.

const instances = new WeakMap()
const SHAPES = ["rectangle", "polygon"]
const REACH = 14 // pixels around a corner that take hold of it

const clamp = (value) => Math.min(1, Math.max(0, Math.round(value * 10000) / 10000))
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b)

class Drawing {
  constructor(root) {
    this.root = root
    this.find = (selector) => root.querySelector(selector)
    this.past = []
    this.listen()
  }

  update(data, save) {
    this.save = save
    if (!this.data || !same(this.data.corners, data.corners)) {
      this.corners = data.corners.map((corner) => [...corner])
      this.shape = this.corners.length > 2 ? "polygon" : "rectangle"
      this.past = []
    }
    this.data = data
    const photo = this.find(".photo")
    if (photo.src !== data.photo) photo.src = data.photo
    photo.alt = data.alt
    const widest = `min(100%, ${((60 * data.width) / data.height).toFixed(2)}vh)`
    this.find(".stage").style.cssText = `aspect-ratio: ${data.width} / ${data.height}; width: ${widest}`
    for (const name of ["save", "add", "undo", "clear"]) this.find(`.${name}`).textContent = data.words[name]
    this.find("legend").textContent = data.words.numbers
    this.label()
    this.draw()
  }

  label() {
    const group = this.find(".shapes")
    group.setAttribute("aria-label", this.data.words.shape)
    if (group.childElementCount === 0) {
      for (const shape of SHAPES) {
        const label = document.createElement("label")
        const radio = Object.assign(document.createElement("input"), { type: "radio", name: "shape", value: shape })
        radio.onchange = () => this.turnInto(shape)
        label.append(radio, document.createElement("span"))
        group.append(label)
      }
    }
    group.querySelectorAll("span").forEach((span, i) => (span.textContent = this.data.words[SHAPES[i]]))
  }

  // The box of a polygon becomes a rectangle, a rectangle becomes a polygon of its four corners.
  turnInto(shape) {
    let corners = []
    if (shape === "polygon" && this.corners.length === 2) {
      const [[a, b], [c, d]] = this.corners
      corners = [[a, b], [c, b], [c, d], [a, d]]
    } else if (shape === "rectangle" && this.corners.length > 2) {
      const xs = this.corners.map((corner) => corner[0]), ys = this.corners.map((corner) => corner[1])
      corners = [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]]
    }
    this.change(corners, shape)
  }

  // One step that Undo takes back.
  change(corners, shape = this.shape) {
    this.past.push([this.corners, this.shape])
    this.corners = corners
    this.shape = shape
    this.draw()
  }

  place(event) {
    const box = this.find(".sheet").getBoundingClientRect()
    return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)]
  }

  held([x, y]) {
    const box = this.find(".sheet").getBoundingClientRect()
    const far = (corner) => Math.hypot((corner[0] - x) * box.width, (corner[1] - y) * box.height)
    const distances = this.corners.map(far)
    const nearest = Math.min(...distances)
    return nearest <= REACH ? distances.indexOf(nearest) : -1
  }

  listen() {
    const sheet = this.find(".sheet")
    sheet.onpointerdown = (event) => {
      if (event.button) return
      sheet.setPointerCapture(event.pointerId)
      const at = this.place(event)
      const hold = this.held(at)
      this.past.push([this.corners, this.shape])
      this.corners = this.corners.map((corner) => [...corner])
      if (hold >= 0) this.drag = hold
      else if (this.shape === "rectangle") {
        this.corners = [at, [...at]]
        this.drag = 1
      } else {
        if (this.corners.length < this.data.most) this.corners.push(at)
        this.drag = this.corners.length - 1
      }
      this.draw()
    }
    sheet.onpointermove = (event) => {
      if (this.drag === undefined) return
      this.corners[this.drag] = this.place(event)
      this.draw()
    }
    sheet.onpointerup = sheet.onpointercancel = () => {
      if (this.drag === undefined) return
      this.drag = undefined
      const [before] = this.past[this.past.length - 1]
      if (this.shape === "rectangle" && !this.usable()) [this.corners] = this.past.pop() // a click is no rectangle
      else if (same(before, this.corners)) this.past.pop()
      this.draw()
    }
    this.find(".undo").onclick = () => {
      ;[this.corners, this.shape] = this.past.pop()
      this.draw()
    }
    this.find(".clear").onclick = () => this.change([])
    this.find(".add").onclick = () => {
      const middle = this.shape === "rectangle" ? [[0.25, 0.25], [0.75, 0.75]] : [...this.corners, [0.5, 0.5]]
      this.change(middle)
      const fields = this.root.querySelectorAll(".corners input")
      fields[this.shape === "rectangle" ? 0 : fields.length - 2].focus()
    }
    this.find(".save").onclick = () => this.save(this.corners)
  }

  usable() {
    const n = this.corners.length
    if (n === 0) return true
    if (n === 1 || (this.shape === "polygon" && n === 2)) return false
    const xs = this.corners.map((corner) => corner[0]), ys = this.corners.map((corner) => corner[1])
    const { least } = this.data
    if (Math.max(...xs) - Math.min(...xs) < least || Math.max(...ys) - Math.min(...ys) < least) return false
    return this.area() >= least * least
  }

  area() {
    const all = this.outline()
    if (all.length === 0) return 1
    let twice = 0
    all.forEach(([x, y], i) => {
      const [u, v] = all[(i + 1) % all.length]
      twice += x * v - u * y
    })
    return Math.abs(twice) / 2
  }

  outline() {
    if (this.shape === "rectangle" && this.corners.length === 2) {
      const [[a, b], [c, d]] = this.corners
      return [[a, b], [c, b], [c, d], [a, d]]
    }
    return this.corners
  }

  draw() {
    const { words } = this.data, all = this.outline()
    const path = all.length > 1 ? `M${all.map(([x, y]) => `${100 * x} ${100 * y}`).join("L")}Z` : ""
    this.find(".dim").setAttribute("d", all.length > 2 ? `M0 0H100V100H0Z${path}` : "")
    for (const edge of this.root.querySelectorAll(".edge")) edge.setAttribute("d", path)
    this.find(".handles").replaceChildren(
      ...this.corners.map(([x, y]) => {
        const dot = document.createElement("span")
        dot.style.left = `${100 * x}%`
        dot.style.top = `${100 * y}%`
        return dot
      }),
    )
    for (const radio of this.root.querySelectorAll(".shapes input")) radio.checked = radio.value === this.shape
    this.find(".hint").textContent = words[`${this.shape}_hint`]
    this.fields()
    const usable = this.usable(), changed = !same(this.corners, this.data.corners)
    this.find(".save").disabled = !usable || !changed
    this.find(".undo").disabled = this.past.length === 0
    this.find(".clear").disabled = this.corners.length === 0
    this.find(".add").textContent = this.shape === "rectangle" ? words.add_rectangle : words.add
    this.find(".add").disabled = this.shape === "rectangle" ? this.corners.length > 0 : this.corners.length >= this.data.most
    const share = words.share.replace("{share}", Math.round(100 * this.area()))
    const said = !usable ? words.unfinished : this.corners.length ? share : words.whole
    if (this.find(".said").textContent !== said) this.find(".said").textContent = said
  }

  // A number for each side of each corner; only made anew when their count changes, so that typing keeps its place.
  fields() {
    const { words } = this.data, box = this.find(".corners")
    this.find(".numbers").hidden = this.corners.length === 0
    if (box.childElementCount !== 2 * this.corners.length) {
      box.replaceChildren(
        ...this.corners.flatMap((_, i) => [0, 1].map((axis) => {
          const label = document.createElement("label")
          const input = Object.assign(document.createElement("input"), { type: "number", min: 0, max: 100, step: 0.1 })
          input.onchange = () => {
            const corners = this.corners.map((corner) => [...corner])
            corners[i][axis] = clamp(Number(input.value) / 100)
            this.change(corners)
          }
          label.append(document.createElement("span"), input)
          return label
        })),
      )
    }
    const inputs = box.querySelectorAll("input"), names = box.querySelectorAll("label > span")
    this.corners.forEach((corner, i) => [0, 1].forEach((axis) => {
      const input = inputs[2 * i + axis]
      names[2 * i + axis].textContent = words[axis ? "down" : "across"].replace("{k}", i + 1)
      const value = String(Math.round(1000 * corner[axis]) / 10)
      if (input.value !== value) input.value = value
    }))
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  let drawing = instances.get(parentElement)
  if (!drawing) {
    drawing = new Drawing(parentElement)
    instances.set(parentElement, drawing)
  }
  drawing.update(data, (corners) => setTriggerValue("saved", corners))
  return () => instances.delete(parentElement)
}
