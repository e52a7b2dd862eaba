package peer

import (
	"encoding/hex"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shownBytes is how much of a long value a report shows; the length stands beside it.
const shownBytes = 24

// short writes a message on one line, as a reader of a report wants it: long values cut, symbols spelled out.
func short(m proto.Message) string {
	if m == nil || !m.ProtoReflect().IsValid() {
		return "nil"
	}
	var b strings.Builder
	showMessage(&b, m.ProtoReflect())
	return b.String()
}

func showMessage(b *strings.Builder, m protoreflect.Message) {
	fields, first := m.Descriptor().Fields(), true
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(string(f.Name()) + ":")
		if f.IsList() {
			b.WriteByte('[')
			for j := range m.Get(f).List().Len() {
				if j > 0 {
					b.WriteByte(' ')
				}
				showValue(b, f, m.Get(f).List().Get(j))
			}
			b.WriteByte(']')
			continue
		}
		showValue(b, f, m.Get(f))
	}
	if n := len(m.GetUnknown()); n > 0 {
		fmt.Fprintf(b, " unknown(%d bytes)", n)
	}
}

func showValue(b *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		b.WriteByte('{')
		showMessage(b, v.Message())
		b.WriteByte('}')
	case protoreflect.BytesKind:
		b.WriteString(shortBytes(v.Bytes()))
	case protoreflect.EnumKind:
		if d := f.Enum().Values().ByNumber(v.Enum()); d != nil {
			b.WriteString(string(d.Name()))
		} else {
			fmt.Fprintf(b, "%d", v.Enum())
		}
	case protoreflect.Int64Kind:
		b.WriteString(showNumber(v.Int()))
	case protoreflect.Uint64Kind:
		if n := v.Uint(); n < 1<<63 {
			b.WriteString(showNumber(int64(n)))
		} else {
			fmt.Fprint(b, n)
		}
	default:
		fmt.Fprintf(b, "%v", v.Interface())
	}
}

func shortBytes(v []byte) string {
	if len(v) <= shownBytes {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprintf("%q...(%d bytes)", v[:shownBytes], len(v))
}

// showNumber writes a symbol by name and any other number in digits.
func showNumber(n int64) string {
	if n < symbolMin || n >= symbolEnd {
		return fmt.Sprint(n)
	}
	names := []string{"current", "compacted", "middle", "lease-slot", "self", "learner"}
	offset := (n-symbolMin)%symbolKind - symbolZero
	return fmt.Sprintf("%s%+d", names[(n-symbolMin)/symbolKind], offset)
}

// showRaw writes the bytes of a request that may not parse.
func showRaw(v []byte) string {
	if len(v) <= 2*shownBytes {
		return hex.EncodeToString(v)
	}
	return fmt.Sprintf("%s...(%d bytes)", hex.EncodeToString(v[:2*shownBytes]), len(v))
}
