package mvcc

import (
	"bytes"
	"reflect"
	"testing"

	"holdfast/kv"
)

func TestRecord(t *testing.T) {
	rev := kv.Rev{Main: 1 << 40, Sub: 1 << 31}
	for _, r := range []record{
		{kind: kindCreate, sum: 0xffffffff, size: 1, key: []byte("k")},
		{kind: kindCreate, key: []byte{}},
		{kind: kindUpdate, sum: 1, size: 1 << 30, hasOld: true, old: kv.Rev{Main: 2, Sub: 9}, oldSize: 77, key: []byte("\x00")},
		{kind: kindDelete, hasOld: true, old: kv.Rev{Main: rev.Main}, key: []byte("same command")},
	} {
		got, err := decodeRecord(r.append(nil, rev), rev)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v became %+v (%v)", r, got, err)
		}
	}
}

// FuzzRecord: any bytes are refused or survive another encoding; nothing panics.
func FuzzRecord(f *testing.F) {
	rev := kv.Rev{Main: 100}
	r := record{kind: kindUpdate, hasOld: true, old: kv.Rev{Main: 9}, oldSize: 3, key: []byte("k")}
	f.Add(r.append(nil, rev))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b, rev)
		if err != nil {
			return
		}
		again, err := decodeRecord(r.append(nil, rev), rev)
		if err != nil || again.kind != r.kind || again.old != r.old || !bytes.Equal(again.key, r.key) {
			t.Fatalf("%x became %+v, then %+v (%v)", b, r, again, err)
		}
	})
}
