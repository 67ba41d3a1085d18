// Loading a 1 GB package: how long until the first token, and how much memory no file backs beside the mapped weights. The package is T5 base's shape with
// random weights, written to a temporary folder first.
using System.Diagnostics;
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Onnx.Package;

namespace IptNative.Bench;

internal static class LoadBench
{
    public static void Run(BenchOptions options, Ledger ledger)
    {
        string folder = Path.Combine(Path.GetTempPath(), $"iptnative-bench-{Environment.ProcessId}");
        try
        {
            using (var random = new RandomCheckpoint(ForwardBench.Base))
                PackageExporter.Export(random, folder, new PackageOptions());
            GC.Collect();
            double gigabytes = Directory.EnumerateFiles(folder).Sum(f => new FileInfo(f).Length) * 1e-9;
            double before = ProcessMemory.AnonymousMiB();

            TimeSpan cpu = Environment.CpuUsage.TotalTime;
            long begin = Stopwatch.GetTimestamp();
            using Checkpoint checkpoint = Checkpoint.Open(folder);
            using FrozenT5 model = FrozenT5.Load(checkpoint, new FrozenT5Options { Threads = options.Threads });
            double load = Stopwatch.GetElapsedTime(begin).TotalSeconds, loadCpu = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds;
            double loaded = ProcessMemory.AnonymousMiB() - before;
            // One token in, one out: a pass whose own needs are next to nothing.
            var batch = new T5Batch();
            batch.Add([1], [1]);
            EncodedBatch encoded = model.Encode(batch);
            model.Score(encoded, batch);
            using (var step = model.StartDecoding(encoded))
                step.DecodeNext([0]);
            double first = Stopwatch.GetElapsedTime(begin).TotalSeconds, firstCpu = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds;
            double ready = ProcessMemory.AnonymousMiB() - before;

            Console.WriteLine($"package of {gigabytes:f2} GB: loaded in {load:f2} s ({loadCpu:f2} s of CPU time), first token after {first:f2} s ({firstCpu:f2} s)");
            Console.WriteLine($"anonymous memory: {loaded:f0} MiB after loading, {ready:f0} MiB after encoding, scoring and decoding one token");
            string shape = $"base package {gigabytes:f2} GB";
            ledger.Add(shape, "", "load", load, "s");
            ledger.Add(shape, "", "load_cpu", loadCpu, "s");
            ledger.Add(shape, "", "first_token", first, "s");
            ledger.Add(shape, "", "first_token_cpu", firstCpu, "s");
            ledger.Add(shape, "", "anonymous_memory", ready, "MiB");
        }
        finally
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
        }
    }
}
