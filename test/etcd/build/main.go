// Command build builds the real etcd for the tests and prints the folder its programs are in.
package main

import (
	"fmt"
	"os"

	"holdfast/test/etcd"
)

func main() {
	dir, err := etcd.Build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
