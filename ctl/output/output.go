// Package output writes what a server answered: in the formats simple, fields, table, json and protobuf of etcdctl 3.7, byte for byte.
//
// A function for each answer (Put, Get, Granted, ...) says what its forms are; this file turns them into bytes. json and
// protobuf need nothing but the message. An answer that has no form in a format is an error, as in etcdctl: the request was made
// all the same.
//
//	Shape   json is encoding/json of the generated structs: 64-bit numbers are numbers, bytes base64, zero fields left out
//	Errors  ErrUnsupported; what the writer returns
//	Source  etcd 3.7.3's etcdctl, by its output
package output

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// ErrUnsupported says that there is no such format, or that an answer has no form in it.
var ErrUnsupported = errors.New("unsupported output format")

// unsupported is an ErrUnsupported with a text of its own.
type unsupported string

func (u unsupported) Error() string        { return string(u) }
func (u unsupported) Is(target error) bool { return target == ErrUnsupported }

// Formats are the names that New takes.
func Formats() []string { return []string{"fields", "json", "protobuf", "simple", "table"} }

// Answer is one answer in all its forms.
type Answer struct {
	message any                             // for json, and for protobuf if it is a message of that
	simple  func(*page)                     // nil writes nothing
	fields  func(*page)                     // nil is no such form
	table   func() ([]string, [][]string)   // head and rows; nil is no such form
	tables  []func() ([]string, [][]string) // in the place of table, one below the other
	json    func() any                      // in the place of message; nil is message
	hexJSON func() any                      // in the place of json when ids are asked for in hexadecimal; nil is json
	many    bool                            // message is a list of answers, which has no form in protobuf
}

// Printer writes answers in one format.
type Printer struct {
	format   string
	hex      bool
	out, err io.Writer
}

// New returns a printer that writes to out. What fails in an answer of many parts goes to err.
func New(format string, hex bool, out, err io.Writer) (*Printer, error) {
	if !slices.Contains(Formats(), format) {
		return nil, ErrUnsupported
	}
	return &Printer{format: format, hex: hex, out: out, err: err}, nil
}

// Format is the name of the format.
func (p *Printer) Format() string { return p.format }

// Print writes an answer.
func (p *Printer) Print(a Answer) error {
	w := &page{Writer: bufio.NewWriter(p.out), err: p.err, hex: p.hex}
	form := map[string]func(*page, Answer) error{
		"simple": simple, "fields": fields, "table": table, "json": jsonForm, "protobuf": protobuf,
	}[p.format]
	if err := form(w, a); err != nil {
		return err
	}
	return w.Flush()
}

func simple(w *page, a Answer) error {
	if a.simple != nil {
		a.simple(w)
	}
	return nil
}

func fields(w *page, a Answer) error {
	if a.fields == nil {
		return unsupported("fields not supported as output format")
	}
	a.fields(w)
	return nil
}

func table(w *page, a Answer) error {
	all := a.tables
	if a.table != nil {
		all = append(all, a.table)
	}
	if len(all) == 0 {
		return unsupported("table not supported as output format")
	}
	for _, one := range all {
		head, rows := one()
		t := tablewriter.NewTable(w, tablewriter.WithConfig(tablewriter.NewConfigBuilder().WithRowAlignment(tw.AlignRight).Build()))
		t.Header(head)
		if err := t.Bulk(rows); err != nil {
			return err
		}
		if err := t.Render(); err != nil {
			return err
		}
	}
	return nil
}

func jsonForm(w *page, a Answer) error {
	message := a.message
	switch {
	case w.hex && a.hexJSON != nil:
		message = a.hexJSON()
	case a.json != nil:
		message = a.json()
	}
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	w.line("%s", text)
	return nil
}

func protobuf(w *page, a Answer) error {
	if a.many {
		return ErrNoProtobuf
	}
	m, ok := a.message.(proto.Message)
	if !ok {
		return unsupported(fmt.Sprintf("marshal unsupported for type %T (%v)", a.message, a.message))
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// page is where the forms of text write. The writer keeps the first error; Print returns it.
type page struct {
	*bufio.Writer
	err io.Writer
	hex bool
}

func (w *page) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// field writes one line of the format fields.
func (w *page) field(name string, value any) { w.line("%q : %v", name, value) }

// id writes a field that is 16 hexadecimal digits when those are asked for.
func (w *page) id(name string, id int64) {
	if w.hex {
		w.line("%q : %016x", name, id)
		return
	}
	w.field(name, id)
}

// member writes a field that is the id of a member or a cluster: hexadecimal without leading zeros when asked for.
func (w *page) member(name string, id uint64) {
	if w.hex {
		w.line("%q : %x", name, id)
		return
	}
	w.field(name, id)
}

// header writes the fields of a response header. Answers that are not about keys have no revision.
func (w *page) header(h *etcdserverpb.ResponseHeader) {
	w.member("ClusterID", h.GetClusterId())
	w.member("MemberID", h.GetMemberId())
	if h.GetRevision() > 0 {
		w.field("Revision", h.GetRevision())
	}
	w.field("RaftTerm", h.GetRaftTerm())
}

// pair writes key and value on a line each, or the value alone.
func (w *page) pair(kv *mvccpb.KeyValue, valueOnly bool) {
	if !valueOnly {
		w.line("%s", w.bytes(kv.GetKey()))
	}
	w.line("%s", w.bytes(kv.GetValue()))
}

// pairFields writes all fields of a pair, their names behind prefix.
func (w *page) pairFields(prefix string, kv *mvccpb.KeyValue) {
	w.line("%q : %q", prefix+"Key", kv.GetKey())
	w.field(prefix+"CreateRevision", kv.GetCreateRevision())
	w.field(prefix+"ModRevision", kv.GetModRevision())
	w.field(prefix+"Version", kv.GetVersion())
	w.line("%q : %q", prefix+"Value", kv.GetValue())
	w.id(prefix+"Lease", kv.GetLease())
}

// bytes are raw, or \x and two digits for each when hexadecimal is asked for.
func (w *page) bytes(b []byte) string {
	if !w.hex {
		return string(b)
	}
	var text strings.Builder
	for i := range b {
		text.WriteString(`\x` + hex.EncodeToString(b[i:i+1]))
	}
	return text.String()
}
