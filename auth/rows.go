package auth

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"holdfast/storage"
)

// Rows are users and roles as they are stored, here and in etcd's file.
type Rows struct {
	Enabled bool
	// Revision is 0 in a file of etcd that never stored one.
	Revision     uint64
	Users, Roles []Row // in the order of their names
}

// Row is one user or role: its name, and its encoded authpb.User or authpb.Role, which repeats the name.
type Row struct {
	Name    string
	Encoded []byte
}

// The rows of table auth are named as in etcd's file.
var (
	enabledKey  = storage.TableAuth.Key([]byte("authEnabled"))
	revisionKey = storage.TableAuth.Key([]byte("authRevision"))
)

const revisionLen = 8

func userKey(name string) []byte { return storage.TableAuthUser.Key([]byte(name)) }
func roleKey(name string) []byte { return storage.TableAuthRole.Key([]byte(name)) }

// Export reads the rows that a view of the store holds. The revision is there even where none was stored: an etcd that is sent a
// state without one goes on from 0, one behind the others.
func Export(view storage.View) (r Rows, err error) {
	enabled, _, err := view.Get(enabledKey)
	if err != nil {
		return Rows{}, err
	}
	r.Enabled = len(enabled) == 1 && enabled[0] == 1
	revision, found, err := view.Get(revisionKey)
	if err != nil {
		return Rows{}, err
	}
	r.Revision = firstRevision
	if found {
		if len(revision) != revisionLen {
			return Rows{}, fmt.Errorf("auth revision in %d bytes", len(revision))
		}
		r.Revision = binary.BigEndian.Uint64(revision)
	}
	if r.Users, err = each(view, storage.TableAuthUser); err != nil {
		return Rows{}, err
	}
	r.Roles, err = each(view, storage.TableAuthRole)
	return r, err
}

func each(view storage.View, t storage.Table) (rows []Row, err error) {
	err = view.Each(t, func(body, value []byte) error {
		rows = append(rows, Row{Name: string(body), Encoded: bytes.Clone(value)})
		return nil
	})
	return rows, err
}

// Restore puts the rows into a store that has none.
func (r Rows) Restore(b *storage.Batch) {
	if r.Enabled {
		putEnabled(b, true)
	}
	if r.Revision != 0 {
		putRevision(b, r.Revision)
	}
	for _, row := range r.Users {
		b.Set(userKey(row.Name), row.Encoded)
	}
	for _, row := range r.Roles {
		b.Set(roleKey(row.Name), row.Encoded)
	}
}

func putEnabled(b *storage.Batch, on bool) {
	value := []byte{0}
	if on {
		value[0] = 1
	}
	b.Set(enabledKey, value)
}

func putRevision(b *storage.Batch, revision uint64) {
	b.Set(revisionKey, binary.BigEndian.AppendUint64(nil, revision))
}

// State is what the rows say.
func (r Rows) State() (*State, error) {
	s := &State{enabled: r.Enabled, revision: max(r.Revision, firstRevision), users: map[string]*user{}, roles: map[string]*role{}}
	for _, row := range r.Roles {
		m := new(authpb.Role)
		if err := row.decode("role", m); err != nil {
			return nil, err
		}
		s.roles[row.Name] = newRole(m)
	}
	for _, row := range r.Users { // after the roles: a user's permissions are those of its roles
		m := new(authpb.User)
		if err := row.decode("user", m); err != nil {
			return nil, err
		}
		s.users[row.Name] = newUser(m, s.roles)
	}
	return s, nil
}

// decode reads a row. Its errors do not repeat it: it may hold a hash.
func (r Row) decode(kind string, m interface {
	proto.Message
	GetName() []byte
}) error {
	if proto.Unmarshal(r.Encoded, m) != nil {
		return fmt.Errorf("%s %q cannot be read", kind, r.Name)
	}
	if string(m.GetName()) != r.Name {
		return fmt.Errorf("%s %q is named %q in its row", kind, r.Name, m.GetName())
	}
	return nil
}

// encode makes the row of a user or a role, in etcd's bytes.
func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("auth: a %s has no encoding", m.ProtoReflect().Descriptor().Name()))
	}
	return b
}
