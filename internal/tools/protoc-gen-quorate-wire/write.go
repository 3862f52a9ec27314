package main

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const protoPackage = protogen.GoImportPath("google.golang.org/protobuf/proto")

// size writes WireSize.
func (w writer) size() {
	w.p()
	w.p("// WireSize is how many bytes the message takes.")
	w.p("func (m *", w.m.GoIdent, ") WireSize() (n int) {")
	w.p("if m == nil { return 0 }")
	for _, f := range w.m.Fields {
		tag := tagSize(f)
		field := "m." + f.GoName
		switch {
		case f.Oneof != nil:
			w.p("if x, ok := m.", f.Oneof.GoName, ".(*", f.GoIdent, "); ok {")
			if w.own(f) {
				w.p("n += ", tag, " + wireBytesLen(x.", f.GoName, ".WireSize())")
			} else {
				w.p("n += ", tag, " + wireBytesLen(len(x.", f.GoName, "))")
			}
		case f.Desc.IsMap():
			w.p("for k, v := range ", field, " {")
			w.p("n += ", tag, " + wireBytesLen(wirePairLen(k, v))")
		case f.Desc.IsList():
			w.p("for _, x := range ", field, " {")
			if w.own(f) {
				w.p("n += ", tag, " + wireBytesLen(x.WireSize())")
			} else {
				w.p("n += ", tag, " + wireBytesLen(len(x))")
			}
		default:
			w.p("if ", present(f, field), " {")
			switch f.Desc.Kind() {
			case protoreflect.MessageKind:
				if w.own(f) {
					w.p("n += ", tag, " + wireBytesLen(", field, ".WireSize())")
				} else {
					w.p("n += ", tag, " + wireBytesLen(", protoPackage.Ident("Size"), "(", field, "))")
				}
			case protoreflect.StringKind, protoreflect.BytesKind:
				w.p("n += ", tag, " + wireBytesLen(len(", field, "))")
			case protoreflect.BoolKind:
				w.p("n += ", tag+1)
			default:
				w.p("n += ", tag, " + wireLen(", number(f, field), ")")
			}
		}
		w.p("}")
	}
	w.p("return n + len(m.unknownFields)")
	w.p("}")
}

// present is the condition under which a field is written.
func present(f *protogen.Field, field string) string {
	switch f.Desc.Kind() {
	case protoreflect.MessageKind:
		return field + " != nil"
	case protoreflect.StringKind, protoreflect.BytesKind:
		return "len(" + field + ") > 0"
	case protoreflect.BoolKind:
		return field
	}
	return field + " != 0"
}

// number is a field as it is written.
func number(f *protogen.Field, field string) string {
	if f.Desc.Kind() == protoreflect.EnumKind {
		return "uint64(int64(" + field + "))" // as protobuf does with those below 0
	}
	return "uint64(" + field + ")"
}

// write writes WireWrite. It goes backwards, so that fields come in their order.
func (w writer) write() {
	w.p()
	w.p("// WireWrite fills b, whose length must be the message's size. False: ask protobuf.")
	w.p("func (m *", w.m.GoIdent, ") WireWrite(b []byte) bool { return m.wirePut(b, len(b)) == 0 }")
	w.p()
	w.p("// wirePut writes the message before i, and returns where it begins.")
	w.p("func (m *", w.m.GoIdent, ") wirePut(b []byte, i int) int {")
	w.p("if m == nil { return i }")
	w.p("i -= len(m.unknownFields)")
	w.p("copy(b[i:], m.unknownFields)")
	written := map[*protogen.Oneof]bool{}
	for _, f := range slices.Backward(inOrder(w.m)) {
		field := "m." + f.GoName
		switch {
		case f.Oneof != nil:
			if !written[f.Oneof] {
				written[f.Oneof] = true
				w.writeOneof(f.Oneof)
			}
			continue
		case f.Desc.IsMap():
			w.p("for k, v := range ", field, " {")
			w.p("if i = wirePutPair(b, i, k, v); i < 0 { return i }")
		case f.Desc.IsList():
			w.p("for j := len(", field, ") - 1; j >= 0; j-- {")
			w.writeValue(f, field+"[j]")
		default:
			w.p("if ", present(f, field), " {")
			w.writeValue(f, field)
		}
		w.writeTag(f)
		w.p("}")
	}
	w.p("return i")
	w.p("}")
}

// inOrder are a message's fields by number.
func inOrder(m *protogen.Message) []*protogen.Field {
	return slices.SortedFunc(slices.Values(m.Fields), func(a, b *protogen.Field) int { return int(a.Desc.Number() - b.Desc.Number()) })
}

func (w writer) writeOneof(o *protogen.Oneof) {
	w.p("switch x := m.", o.GoName, ".(type) {")
	w.p("case nil:")
	for _, f := range o.Fields {
		w.p("case *", f.GoIdent, ":")
		if w.own(f) {
			w.p("if x == nil || x.", f.GoName, " == nil { return -1 }")
		} else {
			w.p("if x == nil { return -1 }")
		}
		w.writeValue(f, "x."+f.GoName)
		w.writeTag(f)
	}
	w.p("}")
}

func (w writer) writeTag(f *protogen.Field) {
	if t := tag(f); t < 0x80 {
		w.p("i--")
		w.p("b[i] = ", hex(t))
	} else {
		w.p("i = wirePutVarint(b, i, ", hex(t), ")")
	}
}

func hex(v uint64) string { return fmt.Sprintf("%#02x", v) }

// writeValue writes one value without its tag.
func (w writer) writeValue(f *protogen.Field, value string) {
	switch f.Desc.Kind() {
	case protoreflect.MessageKind:
		if !w.own(f) {
			w.p("if i = wirePutOther(b, i, ", value, "); i < 0 { return i }")
			return
		}
		w.p("end := i")
		w.p("if i = ", value, ".wirePut(b, i); i < 0 { return i }")
		w.p("i = wirePutVarint(b, i, uint64(end-i))")
	case protoreflect.StringKind:
		w.p("if i = wirePutText(b, i, ", value, "); i < 0 { return i }")
	case protoreflect.BytesKind:
		w.p("i = wirePutBytes(b, i, ", value, ")")
	case protoreflect.BoolKind:
		w.p("i--")
		w.p("b[i] = 1")
	default:
		w.p("i = wirePutVarint(b, i, ", number(f, value), ")")
	}
}
