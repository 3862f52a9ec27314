package testkit

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// FillMessage fills a message at random: each field may be left out, texts may be long, have
// letters of several bytes, or be no UTF-8 where damaged is set. Messages lie at most depth
// deep in each other.
func FillMessage(r *rand.Rand, m proto.Message, depth int, damaged bool) {
	fill(r, m.ProtoReflect(), depth, damaged)
}

func fill(r *rand.Rand, m protoreflect.Message, depth int, damaged bool) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(3) == 0 || f.Message() != nil && depth == 0 {
			continue
		}
		if one := f.ContainingOneof(); one != nil && m.WhichOneof(one) != nil && r.IntN(one.Fields().Len()) > 0 {
			continue
		}
		switch {
		case f.IsMap():
			for range r.IntN(4) {
				m.Mutable(f).Map().Set(protoreflect.ValueOfString(text(r, damaged)).MapKey(), protoreflect.ValueOfString(text(r, damaged)))
			}
		case f.IsList():
			for range r.IntN(40) * r.IntN(2) {
				if f.Message() == nil {
					m.Mutable(f).List().Append(protoreflect.ValueOfString(text(r, damaged)))
					continue
				}
				fill(r, m.Mutable(f).List().AppendMutable().Message(), depth-1, damaged)
			}
		case f.Message() != nil:
			fill(r, m.Mutable(f).Message(), depth-1, damaged)
		default:
			m.Set(f, scalar(r, f, damaged))
		}
	}
	if r.IntN(30) == 0 {
		m.SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), r.Uint64()))
	}
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor, damaged bool) protoreflect.Value {
	number := r.Uint64() >> r.IntN(64)
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(number%2 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(number)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(number))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(number)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text(r, damaged))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(strings.Repeat("\xff\x00", r.IntN(200))))
	}
	panic(fmt.Sprint("a field of kind ", f.Kind()))
}

func text(r *rand.Rand, damaged bool) string {
	if damaged && r.IntN(40) == 0 {
		return "no UTF-8: \xff"
	}
	return strings.Repeat("é", r.IntN(2)) + strings.Repeat("x", r.IntN(9)*r.IntN(9)*r.IntN(9)*r.IntN(9)/(1+r.IntN(40)))
}
