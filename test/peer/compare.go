package peer

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// txnResponses is the one list whose elements answer requests of their own.
const txnResponses = "etcdserverpb.TxnResponse.responses"

// A comparer finds what differs between two answers to one request. Request is the one the reference got.
type comparer struct {
	differences
	request proto.Message
	chosen  map[int64]int64 // numbers the reference chose -> those the other chose
	found   []string
}

// compare returns one line for each thing that differs, none when the answers agree.
func (d differences) compare(request proto.Message, want, got answer, chosen map[int64]int64) []string {
	c := &comparer{differences: d, request: request, chosen: chosen}
	if want.code != got.code {
		c.add("code", want.code, got.code)
	}
	if c.cut(want.text) != c.cut(got.text) {
		c.add("text", strconv.Quote(want.text), strconv.Quote(got.text))
	}
	if len(want.messages) != len(got.messages) {
		c.add("messages", len(want.messages), len(got.messages))
		return c.found
	}
	for i := range want.messages {
		path := string(want.messages[i].ProtoReflect().Descriptor().Name())
		if len(want.messages) > 1 {
			path = fmt.Sprintf("%s#%d", path, i)
		}
		c.message(path, want.messages[i].ProtoReflect(), got.messages[i].ProtoReflect())
	}
	return c.found
}

func (c *comparer) add(path string, want, got any) {
	c.found = append(c.found, fmt.Sprintf("%s: etcd %v, ours %v", path, want, got))
}

// cut replaces a text by the word for its beginning when it has one.
func (c *comparer) cut(text string) string {
	for p, word := range c.prefixes {
		if strings.HasPrefix(text, p) {
			return word
		}
	}
	return text
}

func (c *comparer) message(path string, want, got protoreflect.Message) {
	fields := want.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		c.field(path+"."+string(f.Name()), f, want, got)
	}
	if !bytes.Equal(want.GetUnknown(), got.GetUnknown()) {
		c.add(path+" unknown fields", showRaw(want.GetUnknown()), showRaw(got.GetUnknown()))
	}
}

func (c *comparer) field(path string, f protoreflect.FieldDescriptor, want, got protoreflect.Message) {
	t := c.fields[f.FullName()]
	switch {
	case t.how == "any":
	case f.FullName() == txnResponses && want.Get(f).List().Len() == got.Get(f).List().Len():
		request := c.request
		for i := range want.Get(f).List().Len() {
			c.request = partOf(request, want, i)
			c.value(fmt.Sprintf("%s[%d]", path, i), f, t, want.Get(f).List().Get(i), got.Get(f).List().Get(i))
		}
		c.request = request
	case f.IsList():
		c.list(path, f, t, want.Get(f).List(), got.Get(f).List())
	case f.HasPresence() && want.Has(f) != got.Has(f):
		c.add(path, present(f, want), present(f, got))
	case !want.Has(f) && !got.Has(f):
	default:
		c.value(path, f, t, want.Get(f), got.Get(f))
	}
}

func present(f protoreflect.FieldDescriptor, m protoreflect.Message) string {
	if !m.Has(f) {
		return "absent"
	}
	return show(f, m.Get(f))
}

func (c *comparer) list(path string, f protoreflect.FieldDescriptor, t treatment, want, got protoreflect.List) {
	if want.Len() != got.Len() {
		c.add(path+" length", want.Len(), got.Len())
		return
	}
	order := identity(got.Len())
	switch t.how {
	case "unordered":
		order = c.match(f, want, got)
	case "ties":
		order = c.matchTies(f, want, got)
	}
	for i := range want.Len() {
		if order[i] >= 0 {
			c.value(fmt.Sprintf("%s[%d]", path, i), f, t, want.Get(i), got.Get(order[i]))
		}
	}
}

func (c *comparer) value(path string, f protoreflect.FieldDescriptor, t treatment, want, got protoreflect.Value) {
	if f.Kind() == protoreflect.MessageKind {
		c.message(path, want.Message(), got.Message())
		return
	}
	if want.Equal(got) {
		return
	}
	switch {
	case t.how == "spaces" && oneBlank(want.String()) == oneBlank(got.String()):
	case t.how == "positive" && number(f, want) > 0 && number(f, got) > 0:
	case t.how == "within" && abs(number(f, want)-number(f, got)) <= t.bound+c.slack:
	case t.how == "chosen" && c.chosen[number(f, want)] != 0 && c.chosen[number(f, want)] == number(f, got):
	default:
		c.add(path, show(f, want), show(f, got))
	}
}

var blanks = regexp.MustCompile(" +")

// oneBlank makes one blank of several in a row.
func oneBlank(text string) string { return blanks.ReplaceAllString(text, " ") }

func show(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	var b strings.Builder
	showValue(&b, f, v)
	return b.String()
}

func number(f protoreflect.FieldDescriptor, v protoreflect.Value) int64 {
	if f.Kind() == protoreflect.Uint64Kind {
		return int64(v.Uint())
	}
	return v.Int()
}

func abs(n int64) int64 { return max(n, -n) }

func identity(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// match pairs each element of want with an equal one of got that is still free; what finds no partner takes what is left.
func (c *comparer) match(f protoreflect.FieldDescriptor, want, got protoreflect.List) []int {
	order, free := make([]int, want.Len()), identity(got.Len())
	var alone []int
	for i := range want.Len() {
		at := slices.IndexFunc(free, func(j int) bool { return c.equal(f, want.Get(i), got.Get(j)) })
		if at < 0 {
			alone = append(alone, i)
			continue
		}
		order[i] = free[at]
		free = slices.Delete(free, at, at+1)
	}
	for n, i := range alone {
		order[i] = free[n]
	}
	return order
}

func (c *comparer) equal(f protoreflect.FieldDescriptor, want, got protoreflect.Value) bool {
	trial := &comparer{differences: c.differences, request: c.request, chosen: c.chosen}
	trial.value("", f, treatment{}, want, got)
	return len(trial.found) == 0
}

// matchTies pairs the elements of two key-value lists, letting those with equal sort values change places. When a limit
// cut through a group of equal ones, either server may have kept any of that group: those without partner pair with
// nothing, which is written as -1.
func (c *comparer) matchTies(f protoreflect.FieldDescriptor, want, got protoreflect.List) []int {
	r, ok := c.request.(*pb.RangeRequest)
	if !ok || r.SortTarget == pb.RangeRequest_KEY || !sameSortValues(r.SortTarget, want, got) {
		return identity(got.Len()) // the order is the keys', or it differs and is reported as it stands
	}
	order := c.match(f, want, got)
	for i := range want.Len() {
		lastGroup := sortValue(r.SortTarget, want.Get(i)) == sortValue(r.SortTarget, want.Get(want.Len()-1))
		if r.Limit == int64(want.Len()) && lastGroup && !c.equal(f, want.Get(i), got.Get(order[i])) {
			order[i] = -1
		}
	}
	return order
}

func sameSortValues(target pb.RangeRequest_SortTarget, want, got protoreflect.List) bool {
	for i := range want.Len() {
		if sortValue(target, want.Get(i)) != sortValue(target, got.Get(i)) {
			return false
		}
	}
	return true
}

// partOf returns the request that the ith response of a txn answers.
func partOf(request proto.Message, response protoreflect.Message, i int) proto.Message {
	r, ok := request.(*pb.TxnRequest)
	if !ok {
		return nil
	}
	branch := r.Failure
	if response.Interface().(*pb.TxnResponse).Succeeded {
		branch = r.Success
	}
	if i >= len(branch) {
		return nil
	}
	switch o := branch[i].Request.(type) {
	case *pb.RequestOp_RequestRange:
		return o.RequestRange
	case *pb.RequestOp_RequestTxn:
		return o.RequestTxn
	}
	return nil
}

// sortValue is what a range sorted by target orders kv by, as a comparable value.
func sortValue(target pb.RangeRequest_SortTarget, v protoreflect.Value) any {
	kv := v.Message().Interface().(*mvccpb.KeyValue)
	switch target {
	case pb.RangeRequest_VERSION:
		return kv.Version
	case pb.RangeRequest_CREATE:
		return kv.CreateRevision
	case pb.RangeRequest_MOD:
		return kv.ModRevision
	case pb.RangeRequest_VALUE:
		return string(kv.Value)
	}
	return string(kv.Key)
}
