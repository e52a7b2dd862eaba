package peer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// bytesOf marshals a request that is known to marshal.
func bytesOf(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("peer: marshal %s: %v", short(m), err))
	}
	return b
}

func (g *gen) raw(path string, request []byte) *call {
	c := g.call(path)
	c.raw = request
	if c.raw == nil {
		c.raw = []byte{}
	}
	return c
}

// damaged draws an ordinary request and spoils its bytes: some then mean something else, most nothing.
func (g *gen) damaged() op {
	draws := []struct {
		path    string
		request proto.Message
	}{
		{kvRange, g.randomRange()},
		{put, g.randomPut(g.key())},
		{deleteRange, g.randomDelete()},
		{txn, g.randomTxn(2, map[string]bool{})},
	}
	d := draws[g.rng.IntN(len(draws))]
	b := bytesOf(d.request)
	if len(b) == 0 || len(b) > 4<<10 {
		return g.raw(d.path, nil)
	}
	at := g.rng.IntN(len(b))
	switch g.rng.IntN(4) {
	case 0:
		b = b[:at]
	case 1:
		b[at] ^= 1 << g.rng.IntN(8)
	case 2:
		b = slices.Insert(b, at, byte(g.rng.IntN(256)))
	default:
		b = append(b, b[at:]...)
	}
	if t, ok := parsed(d.path, b).(*pb.TxnRequest); ok && spareEtcd(t) {
		b = bytesOf(t)
	}
	return g.raw(d.path, b)
}

var wireScenes = []scene{
	func(g *gen) []op {
		unknown := protowire.AppendTag(bytesOf(&pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}), 99, protowire.BytesType)
		unknown = protowire.AppendBytes(unknown, []byte("from the future"))
		known := g.raw(kvRange, unknown)
		known.rule, known.met = "1.5 unknown fields are ignored", done
		return append(g.fill("1"), known,
			g.raw(put, protowire.AppendVarint(protowire.AppendTag(bytesOf(&pb.PutRequest{Key: sceneKey(1)}), 77, protowire.VarintType), 1)),
			g.raw(txn, protowire.AppendFixed64(protowire.AppendTag(bytesOf(then(putOf(2))), 55, protowire.Fixed64Type), 1)),
			g.call(kvRange, sceneRange()), g.hashKV(0))
	},
	func(g *gen) []op { // encodings no encoder writes but every decoder takes
		twice := append(bytesOf(&pb.PutRequest{Key: []byte("s/z"), Value: []byte("first")}),
			bytesOf(&pb.PutRequest{Key: sceneKey(0), Value: []byte("last")})...)
		backwards := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), []byte("v"))
		backwards = protowire.AppendBytes(protowire.AppendTag(backwards, 1, protowire.BytesType), sceneKey(1))
		long := append(bytesOf(&pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}), 0x18, 0x82, 0x80, 0x80,
			0x00) // limit 2 in four bytes
		explicitZero := append(bytesOf(&pb.PutRequest{Key: sceneKey(3), Value: []byte("v")}), 0x18, 0x00, 0x20, 0x00)
		notOne := append(bytesOf(&pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}), 0x40, 0x07) // keys_only = 7
		// A oneof set twice: the later wins; an operation in two pieces of the same kind: they merge.
		both := append(bytesOf(getOf(0)), bytesOf(putOf(2))...)
		merged := append(bytesOf(opPut(&pb.PutRequest{Key: sceneKey(4)})), bytesOf(opPut(&pb.PutRequest{Value: []byte("merged")}))...)
		inTxn := func(op []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), op)
		}
		return append(g.fill("1", "2", "3"), g.raw(put, twice), g.raw(put, backwards), g.raw(kvRange, long),
			g.raw(put, explicitZero), g.raw(kvRange, notOne),
			g.raw(txn, inTxn(both)), g.raw(txn, inTxn(merged)), g.call(kvRange, sceneRange()), meet{}, g.hashKV(0))
	},
	func(g *gen) []op {
		badName := []byte{0x0a, 0x02, 0xff, 0xfe}
		ops := []op{
			g.raw(put, []byte{0xff, 0xff, 0xff}), g.raw(kvRange, []byte{0x0a, 0x7f, 'k'}), g.raw(deleteRange,
				[]byte{0x0b}), g.raw(txn, []byte{0x12, 0x03, 0x12, 0x7f}),
			g.raw(kvRange, nil), g.raw(txn, nil), g.raw(compact, []byte{0x08}),
			g.raw(leaseGrant, []byte{0x0d, 1, 2}), g.raw("/etcdserverpb.Auth/UserAdd", badName), g.raw(memberAdd, badName),
			g.raw("/etcdserverpb.KV/Nothing", nil), g.raw("/nothing.Service/Nothing", nil),
		}
		for range 6 {
			ops = append(ops, g.damaged())
		}
		return ops
	},
	func(g *gen) []op {
		return []op{
			badMetadata{path: kvRange, request: &pb.RangeRequest{Key: []byte("a")}},
			badMetadata{path: put, request: &pb.PutRequest{Key: []byte("a")}},
			badMetadata{path: memberStatus, request: &pb.StatusRequest{}},
		}
	},
}

// badMetadata calls with a client-api-version that is not UTF-8. gRPC's client refuses to send such, so this speaks HTTP/2.
type badMetadata struct {
	path    string
	request proto.Message
}

func (b badMetadata) String() string {
	return fmt.Sprintf("client-api-version ff fe, %s {%s}", b.path, short(b.request))
}

func (b badMetadata) run(w *world) error {
	_, _, err := w.exchange(b.request, func(t int) answer {
		a, err := b.post(w.targets[t])
		if err != nil {
			return answer{code: codes.Unavailable, text: fmt.Sprintf("peer: %v", err)}
		}
		return a
	}, nil)
	return err
}

// post sends the call and reads the status; the answer's message, if any, is not looked at.
func (b badMetadata) post(t *target) (answer, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(t.tls == nil)
	protocols.SetHTTP2(t.tls != nil)
	transport := &http.Transport{Protocols: &protocols, TLSClientConfig: t.tls}
	defer transport.CloseIdleConnections()
	body := bytesOf(b.request)
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	request, err := http.NewRequest(http.MethodPost, t.base(0)+b.path, bytes.NewReader(frame))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	request.Header.Set("client-api-version", "\xff\xfe")
	response, err := (&http.Client{Transport: transport, Timeout: callTimeout}).Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return answer{}, err
	}
	status, message := response.Trailer.Get("Grpc-Status"), response.Trailer.Get("Grpc-Message")
	if status == "" { // an answer of trailers alone
		status, message = response.Header.Get("Grpc-Status"), response.Header.Get("Grpc-Message")
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		return answer{}, fmt.Errorf("grpc-status %q", status)
	}
	text, err := url.PathUnescape(message)
	if err != nil {
		return answer{}, err
	}
	return answer{code: codes.Code(code), text: text}, nil
}
