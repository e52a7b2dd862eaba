package gateway

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"holdfast/kv"
)

// rangeJSON writes a RangeResponse in JSON while its encoding comes in pieces of whole fields, in the order of their numbers. It
// writes what protojson does (TestRangeJSON): integers as texts, bytes in base64, nothing that is zero.
type rangeJSON struct {
	to   io.Writer
	text []byte // not sent yet
	sent bool   // some of it
	rows bool   // within the list of rows
}

const (
	// textMax is how much text is sent at once: of a list of any size no more is in memory.
	textMax = 64 << 10
	// valueStep is how much of a value becomes text at once; base64 goes by threes.
	valueStep = 48 << 10
)

// comma is between two members of an object. protojson puts a blank behind it in half of all programs, so that nobody relies on it.
var comma = func() string {
	text, err := protojson.Marshal(&pb.ResponseHeader{MemberId: 1, Revision: 1})
	if err == nil && strings.Contains(string(text), ", ") {
		return ", "
	}
	return ","
}()

// add adds a piece.
func (j *rangeJSON) add(piece []byte) error {
	if j.text == nil {
		j.text = append(make([]byte, 0, min(2*len(piece)+128, textMax+textMax/4)), '{')
	}
	for len(piece) > 0 {
		number, kind, n := protowire.ConsumeTag(piece)
		if n < 0 {
			return protowire.ParseError(n)
		}
		m := protowire.ConsumeFieldValue(number, kind, piece[n:])
		if m < 0 {
			return protowire.ParseError(m)
		}
		if err := j.field(number, kind, piece[n:n+m]); err != nil {
			return err
		}
		piece = piece[n+m:]
	}
	return nil
}

// field adds a field, as it is behind its tag.
func (j *rangeJSON) field(number protowire.Number, kind protowire.Type, value []byte) error {
	if j.rows && number != 2 {
		j.text = append(j.text, ']')
		j.rows = false
	}
	switch {
	case number == 1 && kind == protowire.BytesType:
		header, _ := protowire.ConsumeBytes(value)
		return j.header(header)
	case number == 2 && kind == protowire.BytesType:
		row, _ := protowire.ConsumeBytes(value)
		return j.row(row)
	case number == 3 && kind == protowire.VarintType:
		j.name("more")
		j.text = append(j.text, "true"...)
		return nil
	case number == 4 && kind == protowire.VarintType:
		count, _ := protowire.ConsumeVarint(value)
		j.int("count", int64(count))
		return nil
	}
	return fmt.Errorf("an answer to a range has the field %d of type %d", number, kind)
}

func (j *rangeJSON) header(body []byte) error {
	var h pb.ResponseHeader
	if err := proto.Unmarshal(body, &h); err != nil {
		return err
	}
	j.name("header")
	j.text = append(j.text, '{')
	j.uint("cluster_id", h.ClusterId)
	j.uint("member_id", h.MemberId)
	j.int("revision", h.Revision)
	j.uint("raft_term", h.RaftTerm)
	j.text = append(j.text, '}')
	return nil
}

func (j *rangeJSON) row(body []byte) error {
	v, err := kv.DecodeKeyValue(body)
	if err != nil {
		return err
	}
	if j.rows {
		j.text = append(j.text, comma...)
	} else {
		j.name("kvs")
		j.text = append(j.text, '[')
		j.rows = true
	}
	j.text = append(j.text, '{')
	if err := j.bytes("key", v.Key); err != nil {
		return err
	}
	j.int("create_revision", int64(v.Create))
	j.int("mod_revision", int64(v.Mod))
	j.int("version", v.Version)
	if err := j.bytes("value", v.Value); err != nil {
		return err
	}
	j.int("lease", int64(v.Lease))
	j.text = append(j.text, '}')
	return j.flush(textMax)
}

// name begins a member of the object that was opened last.
func (j *rangeJSON) name(name string) {
	if last := j.text[len(j.text)-1]; last != '{' {
		j.text = append(j.text, comma...)
	}
	j.text = append(append(append(j.text, '"'), name...), `":`...)
}

func (j *rangeJSON) int(name string, n int64) {
	if n != 0 {
		j.name(name)
		j.text = append(strconv.AppendInt(append(j.text, '"'), n, 10), '"')
	}
}

func (j *rangeJSON) uint(name string, n uint64) {
	if n != 0 {
		j.name(name)
		j.text = append(strconv.AppendUint(append(j.text, '"'), n, 10), '"')
	}
}

func (j *rangeJSON) bytes(name string, v []byte) error {
	if len(v) == 0 {
		return nil
	}
	j.name(name)
	j.text = append(j.text, '"')
	for ; len(v) > valueStep; v = v[valueStep:] {
		j.text = base64.StdEncoding.AppendEncode(j.text, v[:valueStep])
		if err := j.flush(textMax); err != nil {
			return err
		}
	}
	j.text = append(base64.StdEncoding.AppendEncode(j.text, v), '"')
	return nil
}

// flush sends what there is if it is so much. It leaves the last byte, which tells what comes behind it.
func (j *rangeJSON) flush(enough int) error {
	last := len(j.text) - 1
	if last < enough {
		return nil
	}
	j.sent = true
	if _, err := j.to.Write(j.text[:last]); err != nil {
		return err
	}
	j.text = append(j.text[:0], j.text[last])
	return nil
}

// end sends the end.
func (j *rangeJSON) end() error {
	if j.rows {
		j.text = append(j.text, ']')
	}
	j.sent = true
	_, err := j.to.Write(append(j.text, '}'))
	return err
}
