package holdfast_test

import (
	"context"
	"fmt"
	"log"
	"os"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast"
)

// A member runs inside the program, and etcd's own client talks to it without a socket.
func Example() {
	dir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	member, err := holdfast.Start(ctx, holdfast.Config{DataDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	client := clientv3.NewCtxClient(ctx)
	client.KV = clientv3.NewKVFromKVClient(pb.NewKVClient(member.Conn()), client)
	client.Watcher = clientv3.NewWatchFromWatchClient(pb.NewWatchClient(member.Conn()), client)

	events := client.Watch(ctx, "greeting", clientv3.WithRev(2))
	if _, err := client.Put(ctx, "greeting", "hello"); err != nil {
		log.Fatal(err)
	}
	answer, err := client.Get(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s at revision %d\n", answer.Kvs[0].Value, answer.Header.Revision)
	fmt.Println("watched", (<-events).Events[0].Type)

	if err := client.Close(); err != nil && err != context.Canceled {
		log.Fatal(err)
	}
	if err := member.Stop(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stopped")
	// Output:
	// hello at revision 2
	// watched PUT
	// stopped
}
