// Package test holds what the tree must look like: who imports whom, and which modules the product is built from.
package test
