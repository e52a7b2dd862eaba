// Command messages writes the Go code of our own protobuf messages. It takes the compiler and the plugin from the modules
// pinned here, so that everybody gets the same file:
//
//	go run -C test/tools ./messages
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	_ "go.etcd.io/etcd/api/v3/etcdserverpb" // the files that ours import
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// root is the module, seen from test/tools; file is the one source, by the name that it registers.
const (
	root = "../.."
	file = "api/lockpb/lock.proto"
)

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "messages:", err)
		os.Exit(1)
	}
}

func generate() error {
	compiler := protocompile.Compiler{
		SourceInfoMode: protocompile.SourceInfoStandard, // comments go into the code
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{ImportPaths: []string{root}},
			protocompile.ResolverFunc(registered),
		},
	}
	files, err := compiler.Compile(context.Background(), file)
	if err != nil {
		return err
	}
	q := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file}, Parameter: proto.String("paths=source_relative"),
		ProtoFile: withImports(files[0], map[string]bool{}),
	}
	answer, err := plugin(q)
	if err != nil {
		return err
	}
	for _, f := range answer.File {
		if err := os.WriteFile(filepath.Join(root, f.GetName()), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// registered finds the files that etcd's messages come from. They import each other by their places in etcd's repository and
// are registered by their last names.
func registered(name string) (protocompile.SearchResult, error) {
	f, err := protoregistry.GlobalFiles.FindFileByPath(name)
	if err != nil {
		f, err = protoregistry.GlobalFiles.FindFileByPath(path.Base(name))
	}
	if err != nil {
		return protocompile.SearchResult{}, err
	}
	message := protodesc.ToFileDescriptorProto(f)
	message.Name = proto.String(name)
	return protocompile.SearchResult{Proto: message}, nil
}

// withImports lists what f imports before f itself.
func withImports(f protoreflect.FileDescriptor, seen map[string]bool) (list []*descriptorpb.FileDescriptorProto) {
	if seen[f.Path()] {
		return nil
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		list = append(list, withImports(f.Imports().Get(i).FileDescriptor, seen)...)
	}
	return append(list, protodesc.ToFileDescriptorProto(f))
}

// plugin runs protoc-gen-go.
func plugin(q *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	in, err := proto.Marshal(q)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "tool", "protoc-gen-go")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	var answer pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, fmt.Errorf("protoc-gen-go: %s", answer.GetError())
	}
	return &answer, nil
}
