package peer

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

const (
	quotaBytes   = 8 << 20
	quotaValue   = 100 << 10
	quotaPutsMax = 4 * quotaBytes / quotaValue // a server that takes four times its quota has none
)

// RunQuota fills two servers with a small quota and compares how they refuse, what they still serve and how they are
// freed. Sizes differ from engine to engine, so the number of writes that fit does too and revisions are not compared: only
// codes, texts, alarms and what is served.
func RunQuota(ctx context.Context, cfg Config, tally *Tally) error {
	s := settingsOf(0)
	s.flags = slices.DeleteFunc(s.flags, func(f string) bool { return f == wideQuota })
	s.flags = append(s.flags, fmt.Sprintf("--quota-backend-bytes=%d", quotaBytes))
	w := &world{
		differences: cfg.differences(),
		tally:       tally,
		settings:    s,
		current:     1,
		keys:        map[string]keyState{},
	}
	if err := w.open(ctx, cfg); err != nil {
		return err
	}
	defer w.close()
	var told [2][]string
	for t, target := range w.targets {
		lines, err := w.fillUp(target)
		if err != nil {
			return err
		}
		told[t] = lines
	}
	for i := range told[0] {
		if i >= len(told[1]) || told[0][i] != told[1][i] {
			return w.differ("over quota, step %d:\n  etcd %s\n  ours %s", i, told[0][i], told[1][min(i, len(told[1])-1)])
		}
	}
	tally.hit("NOSPACE: reached by writing")
	return nil
}

// fillUp takes one server through the whole story and returns what it said at each step.
func (w *world) fillUp(target *target) ([]string, error) {
	value := bytes.Repeat([]byte{'v'}, quotaValue)
	puts := 0
	full := func() bool {
		a := target.call(0, put, nil, &pb.PutRequest{Key: fmt.Appendf(nil, "fill/%03d", puts), Value: value})
		puts++
		return a.text != ""
	}
	for !full() {
		if puts > quotaPutsMax {
			return nil, w.differ("%s took %d puts of %d bytes with a quota of %d", target.name, puts, quotaValue, quotaBytes)
		}
	}
	small := func(key string) proto.Message { return &pb.PutRequest{Key: []byte(key), Value: []byte("small")} }
	var lines []string
	say := func(path string, request proto.Message) answer {
		a := target.call(0, path, nil, request)
		lines = append(lines, fmt.Sprintf("%s {%s}: %s %q", path, short(request), a.code, a.text))
		return a
	}
	say(put, small("a"))
	say(put, &pb.PutRequest{Key: []byte("big"), Value: value})
	say(txn, then(opPut(&pb.PutRequest{Key: []byte("b")})))
	say(txn, then(opRange(&pb.RangeRequest{Key: []byte("fill/000")})))
	say(leaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: longTTL})
	say(kvRange, &pb.RangeRequest{Key: []byte("fill/000")})
	alarms := say(alarm, &pb.AlarmRequest{})
	status := say(memberStatus, &pb.StatusRequest{})
	if r, ok := alarms.only().(*pb.AlarmResponse); ok {
		lines = append(lines, fmt.Sprint("alarms ", r.Alarms))
	}
	if r, ok := status.only().(*pb.StatusResponse); ok {
		lines = append(lines, fmt.Sprint("errors ", r.Errors, " quota ", r.DbSizeQuota))
	}
	say(deleteRange, &pb.DeleteRangeRequest{Key: []byte("fill/"), RangeEnd: []byte("fill0")})
	rev := int64(0)
	if r, ok := target.call(0, kvRange, nil, &pb.RangeRequest{Key: []byte("a")}).only().(*pb.RangeResponse); ok {
		rev = r.Header.Revision
	}
	compacted := target.call(0, compact, nil, &pb.CompactionRequest{Revision: rev, Physical: true})
	lines = append(lines, "compaction "+compacted.text)
	say(defragment, &pb.DefragmentRequest{})
	say(put, small("still refused while the alarm stands"))
	say(alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: w.selfID[0], Alarm: pb.AlarmType_NOSPACE})
	say(put, small("free"))
	say(leaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: longTTL})
	say(put, &pb.PutRequest{Key: []byte("again"), Value: value})
	return lines, nil
}
