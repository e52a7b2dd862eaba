package peer

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A symbol is a number in a request that stands for one known only when the request is sent. Symbols are drawn from
// [symbolMin, symbolEnd), a range no operation uses for itself.
const (
	symbolMin  = int64(1) << 50
	symbolEnd  = int64(1) << 55
	symbolKind = int64(1) << 40 // distance between the kinds
	symbolZero = int64(1) << 30 // what an offset of 0 is stored as, so that offsets may be negative
)

// The kinds of symbols and what their offset means.
const (
	kindCurrent   = iota // the store's revision plus offset
	kindCompacted        // the compacted revision plus offset; -1 before the first compaction counts as 0
	kindMiddle           // offset thousandths of the way from the compacted to the current revision
	kindLease            // the lease the server chose for slot offset; differs between the servers
	kindSelf             // the member's own id
	kindMember           // the id the server chose for the learner added last
)

func symbol(kind int, offset int64) int64 {
	return symbolMin + int64(kind)*symbolKind + symbolZero + offset
}

func atCurrent(offset int64) int64   { return symbol(kindCurrent, offset) }
func atCompacted(offset int64) int64 { return symbol(kindCompacted, offset) }
func atMiddle(thousandth int64) int64 {
	return symbol(kindMiddle, thousandth)
}
func leaseSlot(slot int64) int64 { return symbol(kindLease, slot) }
func self() uint64               { return uint64(symbol(kindSelf, 0)) }
func learner() uint64            { return uint64(symbol(kindMember, 0)) }

// number returns what n stands for when sent to target t, which is n itself unless n is a symbol.
func (w *world) number(n int64, t int) int64 {
	if n < symbolMin || n >= symbolEnd {
		return n
	}
	kind, offset := (n-symbolMin)/symbolKind, (n-symbolMin)%symbolKind-symbolZero
	switch kind {
	case kindCurrent:
		return w.current + offset
	case kindCompacted:
		return w.compacted + offset
	case kindMiddle:
		return w.compacted + (w.current-w.compacted)*offset/1000
	case kindLease:
		return w.leases[t][offset]
	case kindSelf:
		return int64(w.selfID[t])
	case kindMember:
		return int64(w.learnerID[t])
	}
	panic(fmt.Sprintf("peer: symbol %d of kind %d", n, kind))
}

// resolve returns the request with every symbol replaced for target t. A request without symbols is returned as it is.
func (w *world) resolve(m proto.Message, t int) proto.Message {
	if !hasSymbol(m.ProtoReflect()) {
		return m
	}
	m = proto.Clone(m)
	w.replace(m.ProtoReflect(), t)
	return m
}

func hasSymbol(m protoreflect.Message) bool {
	found := false
	eachNumber(m, func(_ protoreflect.Message, _ protoreflect.FieldDescriptor, n int64) {
		found = found || n >= symbolMin && n < symbolEnd
	})
	return found
}

func (w *world) replace(m protoreflect.Message, t int) {
	eachNumber(m, func(m protoreflect.Message, f protoreflect.FieldDescriptor, n int64) {
		n = w.number(n, t)
		if f.Kind() == protoreflect.Uint64Kind {
			m.Set(f, protoreflect.ValueOfUint64(uint64(n)))
		} else {
			m.Set(f, protoreflect.ValueOfInt64(n))
		}
	})
}

// eachNumber visits the set 64-bit numbers of m and the messages in it.
func eachNumber(m protoreflect.Message, visit func(protoreflect.Message, protoreflect.FieldDescriptor, int64)) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			for i := range v.List().Len() {
				eachNumber(v.List().Get(i).Message(), visit)
			}
		case f.IsList():
		case f.Kind() == protoreflect.MessageKind:
			eachNumber(v.Message(), visit)
		case f.Kind() == protoreflect.Int64Kind:
			visit(m, f, v.Int())
		case f.Kind() == protoreflect.Uint64Kind:
			visit(m, f, int64(v.Uint()))
		}
		return true
	})
}
