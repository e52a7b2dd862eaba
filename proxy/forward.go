package proxy

import (
	"context"
	"errors"
	"io"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// What is neither saved nor changed goes through as it comes: messages are not decoded, whatever the method.

// frame is a message as it came.
type frame struct{ body []byte }

// codec leaves frames as they are. Everything else goes through the generated code.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, is := v.(*frame); is {
		return mem.BufferSlice{mem.SliceBuffer(f.body)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, is := v.(*frame); is {
		f.body = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// forwarded are the services of which every method goes through that the proxy has none of its own for.
var forwarded = []string{
	"/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/", "/etcdserverpb.Auth/",
	"/v3lockpb.Lock/", "/v3electionpb.Election/",
}

// forward passes a call of any form to the cluster.
func (p *Proxy) forward(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	if !p.forwards(method) {
		return status.Errorf(codes.Unimplemented, "%s is not supported by the gRPC proxy", method)
	}
	ctx, cancel := context.WithCancel(outgoing(in.Context()))
	defer cancel()
	out, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return err
	}
	p.handlers.Go(func() { // ends with the call
		if upload(in, out) != nil {
			cancel()
		}
	})
	return download(in, out)
}

// forwards tells whether a method goes through. A namespace does not let through what names keys the proxy does not change.
func (p *Proxy) forwards(method string) bool {
	if p.cfg.Namespace != "" && strings.HasPrefix(method, "/etcdserverpb.KV/") {
		return false
	}
	for _, prefix := range forwarded {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}

// upload passes on what the client says.
func upload(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var f frame
		err := in.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return out.CloseSend()
		}
		if err != nil {
			return err
		}
		if out.SendMsg(&f) != nil {
			return nil // receiving says why
		}
	}
}

// download passes on what the cluster says, and how it ends.
func download(in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var f frame
		err := out.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := in.SendMsg(&f); err != nil {
			return err
		}
	}
}

// outgoing is the context of a call to the cluster on behalf of a client: with its token, and with its wish for a leader.
func outgoing(ctx context.Context) context.Context { return outgoingAs(ctx, behalf(ctx)) }

func outgoingAs(ctx context.Context, who identity) context.Context {
	return metadata.NewOutgoingContext(ctx, who.metadata())
}

// identity is what the cluster is told of a client.
type identity struct {
	token  string // "" is none
	leader bool   // wants nothing without a leader
}

// behalf is what an incoming call says of its client.
func behalf(ctx context.Context) (who identity) {
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC); len(v) > 0 {
		who.token = v[0]
	}
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	who.leader = len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
	return who
}

func (who identity) metadata() metadata.MD {
	md := metadata.MD{}
	if who.token != "" {
		md.Set(rpctypes.TokenFieldNameGRPC, who.token)
	}
	if who.leader {
		md.Set(rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	return md
}

// asStatus gives an error of etcd's client the code and the text that it had on the wire.
func asStatus(err error) error {
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return status.Error(known.Code(), known.Error())
	}
	return err
}

// only is a service with some of its methods. The others are forwarded.
func only(desc grpc.ServiceDesc, names ...string) *grpc.ServiceDesc {
	methods, streams := desc.Methods, desc.Streams
	desc.Methods, desc.Streams = nil, nil
	for _, name := range names {
		for _, m := range methods {
			if m.MethodName == name {
				desc.Methods = append(desc.Methods, m)
			}
		}
		for _, s := range streams {
			if s.StreamName == name {
				desc.Streams = append(desc.Streams, s)
			}
		}
	}
	return &desc
}
