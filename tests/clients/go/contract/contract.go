// Package contract is what the client programs in Go share: the arguments, the records, and how they tell what they saw
// (see ../../README.md).
package contract

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Arguments are those of every client program.
type Arguments struct {
	Mode, Topic, Values, Compression string
	Group, Protocol                  string
	Bootstrap                        []string
	Partitions, Count, Size, Gate    int
	Idempotent                       bool
	Seconds                          float64
	Session                          time.Duration
}

// Read parses the command line.
func Read() Arguments {
	var a Arguments
	flag.StringVar(&a.Mode, "mode", "", "produce, consume or member")
	bootstrap := flag.String("bootstrap", "", "host:port,host:port")
	flag.StringVar(&a.Topic, "topic", "", "the topic")
	flag.IntVar(&a.Partitions, "partitions", 0, "how many it has")
	flag.IntVar(&a.Count, "records", 0, "how many to write")
	flag.StringVar(&a.Values, "values", "", "the file with the values, one after the other")
	flag.IntVar(&a.Size, "size", 1024, "bytes of a value")
	flag.StringVar(&a.Compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	idempotence := flag.String("idempotence", "off", "on or off")
	flag.IntVar(&a.Gate, "gate", 0, "wait before this record for a line on standard input")
	flag.Float64Var(&a.Seconds, "seconds", 0, "spread what comes after the gate over this time")
	flag.StringVar(&a.Group, "group", "", "the group of a member")
	flag.StringVar(&a.Protocol, "protocol", "classic", "its protocol: classic or consumer")
	session := flag.Int("session", 3000, "its session timeout in ms, in the classic protocol")
	flag.Parse()
	a.Session = time.Duration(*session) * time.Millisecond
	a.Bootstrap = strings.Split(*bootstrap, ",")
	a.Idempotent = *idempotence == "on"
	return a
}

// Record is what is to be written under one number.
type Record struct {
	Number     int
	Partition  int32
	Key, Value []byte
	Headers    [][2]string
}

// Records calls write for each record. At the gate it waits for a line on standard input, and spreads what comes after it
// over the time that was asked for.
func (a Arguments) Records(write func(Record)) error {
	file, err := os.Open(a.Values)
	if err != nil {
		return err
	}
	defer file.Close()
	values := bufio.NewReaderSize(file, 1<<20)
	var opened time.Time
	step := time.Duration(a.Seconds / float64(max(1, a.Count-a.Gate)) * float64(time.Second))
	for number := range a.Count {
		value := make([]byte, a.Size)
		if _, err := io.ReadFull(values, value); err != nil {
			return err
		}
		if a.Gate > 0 && number >= a.Gate {
			if number == a.Gate {
				a.waitAtGate()
				opened = time.Now()
			}
			if ahead := time.Until(opened.Add(step * time.Duration(number-a.Gate))); ahead > 5*time.Millisecond {
				time.Sleep(ahead)
			}
		}
		write(Record{
			Number:    number,
			Partition: int32(number % a.Partitions),
			Key:       fmt.Appendf(nil, "key-%d", number),
			Value:     value,
			Headers:   [][2]string{{"number", fmt.Sprint(number)}, {"twice", "first"}, {"twice", "second"}},
		})
	}
	return nil
}

func (a Arguments) waitAtGate() {
	open := make(chan struct{})
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		close(open)
	}()
	for {
		Flush()
		select {
		case <-open:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var (
	mutex sync.Mutex
	out   = bufio.NewWriterSize(os.Stdout, 1<<16)
)

// Tell writes one line.
func Tell(what ...any) {
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	mutex.Lock()
	defer mutex.Unlock()
	out.Write(append(line, '\n'))
}

// Flush sends on what was told.
func Flush() {
	mutex.Lock()
	defer mutex.Unlock()
	out.Flush()
}

// Settled tells how the sending of a record ended.
func Settled(number int, partition int32, offset int64, err error) {
	if err != nil {
		Tell("failed", number, err.Error())
	} else {
		Tell("acknowledged", number, partition, offset)
	}
	// The harness wants to know how far we are.
	if number%50 == 0 {
		Flush()
	}
}

// InRange tells the first offset of a partition, and the one after the last.
func InRange(partition int32, beginning, end int64) {
	Tell("range", partition, beginning, end)
	Flush()
}

// ReadRecord tells of a record that was read.
func ReadRecord(partition int32, offset int64, key, value []byte, headers [][2]string) {
	if headers == nil {
		headers = [][2]string{}
	}
	Tell("read", partition, offset, string(key), crc32.ChecksumIEEE(value), len(value), headers)
}

// Process is a member's work with a record: it is done when the line is out, and takes a while.
func Process(partition int32, offset int64, key, value []byte, headers [][2]string) {
	ReadRecord(partition, offset, key, value, headers)
	Flush()
	time.Sleep(2 * time.Millisecond)
}

// Assigned tells a member's partitions.
func Assigned(partitions []int32) {
	Tell("assigned", partitions)
	Flush()
}

// Committed tells that a commit was acknowledged.
func Committed(partition int32, offset int64) {
	Tell("committed", partition, offset)
	Flush()
}

// Lag tells the committed offset and the end of a partition, as the client itself finds them.
func Lag(partition int32, committed, end int64) {
	Tell("lag", partition, committed, end)
}

// UntilTold is closed when standard input ends: the harness has seen all that it waits for.
func UntilTold() <-chan struct{} {
	told := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(told)
	}()
	return told
}

// Run does what the arguments ask for, and ends the process.
func Run(versions string, produce, consume, member func(Arguments) error) {
	a := Read()
	Tell("versions", versions)
	err := map[string]func(Arguments) error{"produce": produce, "consume": consume, "member": member}[a.Mode](a)
	if err == nil {
		Tell("done")
	}
	Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Version is that of a module in this program.
func Version(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == path {
				return module.Version
			}
		}
	}
	return "of an unknown version"
}
