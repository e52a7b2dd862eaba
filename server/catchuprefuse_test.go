package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"holdfast/etcdfile"
	"holdfast/transport"
)

// receiver is a member that does not run, on a disk in memory.
func receiver(t *testing.T) *Server {
	t.Helper()
	cfg := testConfig("data")
	cfg.FS = vfs.NewMem()
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// refuses has m receive a state that it must not take, and looks for what that left behind.
func refuses(t *testing.T, m *Server, state sentState, body io.Reader, what string) error {
	t.Helper()
	in := state.incoming()
	in.Body = body
	err := m.catchUp.Receive(context.Background(), state.message, in)
	if err == nil {
		t.Errorf("%s: taken", what)
	}
	stores, listErr := m.dir.otherStores("")
	temp, tempErr := m.dir.fs.List(m.dir.path("tmp"))
	if err := errors.Join(listErr, tempErr); err != nil || len(stores) != 1 || len(temp) != 0 {
		t.Errorf("%s: it leaves %q and %q (%v)", what, stores, temp, err)
	}
	if m.keys.Revision() != 1 || m.catchUp.state != nil {
		t.Errorf("%s: the member has changed", what)
	}
	return err
}

// TestCatchUpInterrupted breaks transfers off at random places, and stops them: nothing is left of them, and the next one is
// taken.
func TestCatchUpInterrupted(t *testing.T) {
	for _, form := range []transport.Form{transport.Database, transport.Checkpoint} {
		t.Run(form.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(drawSeed(t), 1))
			state, m := makeState(t, form), receiver(t)
			broken := errors.New("the connection broke")
			for range 20 {
				at := rng.IntN(len(state.body))
				body := io.MultiReader(bytes.NewReader(state.body[:at]), iotest.ErrReader(broken))
				if err := refuses(t, m, state, body, "a broken transfer"); !errors.Is(err, broken) {
					t.Errorf("broken at %d: %v", at, err)
				}
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := m.catchUp.Receive(ctx, state.message, state.incoming()); !errors.Is(err, context.Canceled) {
				t.Errorf("stopped: %v", err)
			}
			m.space.low.Store(true)
			if err := refuses(t, m, state, bytes.NewReader(state.body), "a full disk"); !errors.Is(err, errNoSnapshotSpace) {
				t.Errorf("with the disk full: %v", err)
			}
			m.space.low.Store(false)
			if err := m.catchUp.Receive(context.Background(), state.message, state.incoming()); err != nil {
				t.Fatal(err)
			}
			if got := m.CatchUpStats().Received; got.Done != 1 || got.Failed != 22 || got.UnderWay != 0 || got.Bytes != uint64(len(state.body)) {
				t.Errorf("counted %+v of %d bytes", got, len(state.body))
			}
		})
	}
}

// TestCatchUpOverWhatIsLeft: what an earlier transfer of the same state has left behind, under its last name, does not keep the
// next one out.
func TestCatchUpOverWhatIsLeft(t *testing.T) {
	for _, form := range []transport.Form{transport.Database, transport.Checkpoint} {
		t.Run(form.String(), func(t *testing.T) {
			cfg := testConfig(t.TempDir()) // a real file system: that in memory renames onto anything
			m, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			state := makeState(t, form)
			if err := m.catchUp.Receive(t.Context(), state.message, state.incoming()); err != nil {
				t.Fatal(err)
			}
			m.catchUp.state = nil
			if err := m.catchUp.Receive(t.Context(), state.message, state.incoming()); err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// TestCatchUpDamaged: a checkpoint in which a bit was flipped on the way is refused wherever the bit is, a database where the damage
// can be seen; both are refused for another entry than they are the state of.
func TestCatchUpDamaged(t *testing.T) {
	rng := rand.New(rand.NewPCG(drawSeed(t), 1))
	m := receiver(t)
	checkpoint := makeState(t, transport.Checkpoint)
	for range 20 {
		b := bytes.Clone(checkpoint.body)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		refuses(t, m, checkpoint, bytes.NewReader(b), "a damaged checkpoint")
	}
	database := makeState(t, transport.Database)
	for _, cut := range []int{0, 100, 4096, len(database.body) / 2, len(database.body) - 4096} {
		refuses(t, m, database, bytes.NewReader(database.body[:cut]), "half a database")
	}
	for _, state := range []sentState{checkpoint, database} {
		state.message = proto.Clone(state.message).(*raftpb.Message)
		*state.message.Snapshot.Metadata.Index -= 2
		refuses(t, m, state, bytes.NewReader(state.body), "the state of a later entry")
	}
}

// altered is the database of an etcd with something in it that this version does not have.
type altered struct {
	*etcdfile.Database
	change func(*etcdfile.Meta)
}

func (a altered) Meta() (etcdfile.Meta, error) {
	meta, err := a.Database.Meta()
	a.change(&meta)
	return meta, err
}

// TestCatchUpForeign refuses, with a sentence, databases of clusters that use what this version does not have.
func TestCatchUpForeign(t *testing.T) {
	state, m := makeState(t, transport.Database), receiver(t)
	fs := vfs.NewMem()
	f, err := fs.Create("db", vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(state.body)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := etcdfile.Open(fs, "db")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, want string
		change     func(*etcdfile.Meta)
	}{
		{"a newer cluster", "3.9.0", func(m *etcdfile.Meta) { m.ClusterVersion = "3.9.0" }},
	} {
		if _, err := etcdfile.Write(fs, "altered", altered{Database: db, change: c.change}); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Open("altered")
		if err != nil {
			t.Fatal(err)
		}
		if err := refuses(t, m, state, f, c.what); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		if err := errors.Join(f.Close(), fs.Remove("altered")); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
