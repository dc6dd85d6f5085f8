// Package world starts a world for tests: simulated marketplaces, a real server, a proxy that cuts. See ../../../conformance/world.py.
package world

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// World says where everything is.
type World struct {
	// URL is the proxy before the server.
	URL string
	// Direct is the server itself; Control makes things happen; Vastai and Tensordock are the marketplaces.
	Direct, Control, Vastai, Tensordock string
}

// Folder is clients/, where the clients and the scenario lie.
func Folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Start starts a world that ends with the test.
func Start(t *testing.T) *World {
	t.Helper()
	child := exec.Command("python3", filepath.Join(Folder(), "conformance", "world.py"))
	child.Stderr = os.Stderr
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatalf("the world needs Python 3.10 or newer: %v", err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = child.Wait()
	})
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the world does not come up: %v", err)
	}
	var world World
	if err := json.Unmarshal(line, &world); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return &world
}

// Do makes something happen: see world.py.
func (w *World) Do(t *testing.T, what string) string {
	t.Helper()
	return Post(t, w.Control+"/"+what)
}

// Ask is Do for any goroutine: it tells what is wrong and ends no test.
func (w *World) Ask(what string) (string, error) {
	return body(http.Post(w.Control+"/"+what, "", nil))
}

// Post is the body of the answer to a POST.
func Post(t *testing.T, url string) string {
	t.Helper()
	return told(t)(body(http.Post(url, "", nil)))
}

// Get is the body of the answer to a GET.
func Get(t *testing.T, url string) string {
	t.Helper()
	return told(t)(body(http.Get(url)))
}

func told(t *testing.T) func(string, error) string {
	return func(text string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

func body(answer *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return string(text), err
}
