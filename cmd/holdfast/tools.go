package main

import (
	"os"

	"github.com/spf13/cobra"

	"holdfast/ctl/utl"
)

// runUtl runs the tool for the files of members that do not run, and ends the process.
func runUtl(asEtcdutl bool, args []string) {
	cobra.EnablePrefixMatching = true // as etcd's tools: "snap stat" is "snapshot status"
	root := utl.Command(asEtcdutl)
	root.SetArgs(args)
	os.Exit(utl.Exit(root.Execute(), os.Stderr))
}
