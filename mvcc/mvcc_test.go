package mvcc

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/kv"
	"holdfast/storage"
)

func TestSmoke(t *testing.T) {
	st, err := storage.Open(storage.Config{FS: vfs.NewMem(), Dir: "store"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(st, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 3; i++ {
		b := st.NewBatch()
		run := s.Begin(b)
		for j := 0; j < 3; j++ {
			c := run.Command()
			c.Put([]byte(fmt.Sprintf("k%d", j)), []byte(fmt.Sprint(i)), 0)
			c.End()
		}
		if err := run.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		run.Publish()
		b.Close()
	}
	res, err := s.Range(context.Background(), &kv.RangeRequest{KeyRange: kv.KeyRange{Key: []byte("k"), End: []byte("l")}})
	if err != nil {
		t.Fatal(err)
	}
	for r := range res.Rows.All() {
		v, _ := kv.DecodeKeyValue(r)
		t.Logf("%+v", v)
	}
	ev, next, err := s.Events(kv.Rev{Main: 2}, 10, 1<<20, true)
	t.Log(ev, next, err)
	t.Log(s.HashKV(context.Background(), 0))
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
