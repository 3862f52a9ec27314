package main

import (
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// read writes WireRead.
func (w writer) read() {
	w.p()
	w.p("// WireRead makes the message what b says; it keeps nothing of b. False: ask protobuf.")
	w.p("func (m *", w.m.GoIdent, ") WireRead(b []byte) bool {")
	w.p("m.Reset()")
	w.p(`return m.wireRead(b, "", wireDepthMax)`)
	w.p("}")
	w.p()
	w.p("// wireRead reads into a message that is empty. text holds the same as b, or nothing.")
	w.p("func (m *", w.m.GoIdent, ") wireRead(b []byte, text string, depth int) bool {")
	w.p("if depth == 0 { return false }")
	if w.hasTexts() {
		w.p("text = wireShared(b, text)")
	}
	for _, f := range w.m.Fields {
		if f.Desc.IsList() && w.own(f) {
			w.p("var slab", f.GoName, " []", f.Message.GoIdent)
		}
	}
	w.p("for i := 0; i < len(b); {")
	w.p("var tag uint64")
	w.p("if tag, i = wireVarint(b, i); i < 0 { return false }")
	w.p("switch tag {")
	for _, f := range w.m.Fields {
		w.p("case ", hex(tag(f)), ":")
		w.readField(f)
	}
	w.p("default: return false")
	w.p("}")
	w.p("}")
	w.p("return true")
	w.p("}")
}

// hasTexts says whether any field, here or below, uses the shared text.
func (w writer) hasTexts() bool {
	for _, f := range w.m.Fields {
		if f.Desc.Kind() == protoreflect.StringKind || f.Desc.IsMap() || w.own(f) {
			return true
		}
	}
	return false
}

func (w writer) readField(f *protogen.Field) {
	field := "m." + f.GoName
	switch {
	case f.Oneof != nil:
		w.readOneof(f)
	case f.Desc.IsMap():
		w.p("if ", field, " == nil { ", field, " = make(map[string]string, ", w.run(f), ") }")
		w.p("var k, v string")
		w.p("if k, v, i = wirePair(b, i, text); i < 0 { return false }")
		w.p(field, "[k] = v")
	case f.Desc.IsList() && w.own(f):
		w.p("if len(slab", f.GoName, ") == 0 {")
		w.p("n := ", w.run(f))
		w.p("if ", field, " == nil { ", field, " = make([]*", f.Message.GoIdent, ", 0, n) }")
		w.p("slab", f.GoName, " = make([]", f.Message.GoIdent, ", min(n, wireSlabMax))")
		w.p("}")
		w.p("x := &slab", f.GoName, "[0]")
		w.p("slab", f.GoName, " = slab", f.GoName, "[1:]")
		w.readMessage("x")
		w.p(field, " = append(", field, ", x)")
	case f.Desc.IsList():
		w.p("var x string")
		w.p("if x, i = wireText(b, i, text); i < 0 { return false }")
		w.p(field, " = append(", field, ", x)")
	case w.own(f):
		w.p("if ", field, " != nil { return false } // protobuf merges the two")
		w.p(field, " = new(", f.Message.GoIdent, ")")
		w.readMessage(field)
	case f.Message != nil:
		w.p("if ", field, " != nil { return false } // protobuf merges the two")
		w.p(field, " = new(", f.Message.GoIdent, ")")
		w.p("if i = wireOther(b, i, ", field, "); i < 0 { return false }")
	case f.Desc.Kind() == protoreflect.StringKind:
		w.p("if ", field, ", i = wireText(b, i, text); i < 0 { return false }")
	case f.Desc.Kind() == protoreflect.BytesKind:
		w.p("if ", field, ", i = wireBytes(b, i); i < 0 { return false }")
	default:
		w.p("var v uint64")
		w.p("if v, i = wireVarint(b, i); i < 0 { return false }")
		switch f.Desc.Kind() {
		case protoreflect.BoolKind:
			w.p(field, " = v != 0")
		case protoreflect.EnumKind:
			w.p(field, " = ", f.Enum.GoIdent, "(v)")
		case protoreflect.Uint32Kind:
			w.p(field, " = uint32(v)")
		default:
			w.p(field, " = v")
		}
	}
}

// run counts the elements of a list, or of a map, that follow each other.
func (w writer) run(f *protogen.Field) string { return "wireRun(b, i, " + hex(tag(f)) + ")" }

// readMessage reads a message into x, which is empty.
func (w writer) readMessage(x string) {
	w.p("from, to := wireSpan(b, i)")
	w.p("if to < 0 || !", x, ".wireRead(b[from:to], wirePart(text, from, to), depth-1) { return false }")
	w.p("i = to")
}

// readOneof reads one of several: the wrapper and its message are allocated together.
func (w writer) readOneof(f *protogen.Field) {
	w.p("if m.", f.Oneof.GoName, " != nil { return false } // protobuf merges or replaces")
	if !w.own(f) {
		w.p("x := new(", f.GoIdent, ")")
		w.p("if x.", f.GoName, ", i = wireBytes(b, i); i < 0 { return false }")
		w.p("m.", f.Oneof.GoName, " = x")
		return
	}
	w.p("x := new(struct { of ", f.GoIdent, "; message ", f.Message.GoIdent, " })")
	w.p("x.of.", f.GoName, " = &x.message")
	w.p("m.", f.Oneof.GoName, " = &x.of")
	w.readMessage("x.message")
}
