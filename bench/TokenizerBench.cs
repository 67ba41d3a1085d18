// Our tokenizer against SentencePiece's own spm_encode (Debian: sentencepiece), one thread each, the same lines and vocabulary. Compared in CPU time:
// spm_encode's less what it takes to start and load the vocabulary, ours in this process after it is compiled. Both make ids; spm_encode also prints them.
using IptNative.Model.Tokenizer;

namespace IptNative.Bench;

internal static class TokenizerBench
{
    private const int Copies = 200;

    public static void Run(BenchOptions options, Ledger ledger)
    {
        int repeats = options.Repeats > 0 ? options.Repeats : 9;
        string vocabulary = Path.Combine(Ledger.Root, "tests", "Goldens", "tokenizer", "t5_spiece.model");
        // Prose with names, numbers and code: what this repository says about itself.
        string[] lines = [.. Directory.EnumerateFiles(Ledger.Root, "*.md", SearchOption.AllDirectories)
            .Where(f => !f.Contains("artifacts", StringComparison.Ordinal) && !f.Contains(".deps", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal).SelectMany(File.ReadLines).Where(l => l.Length > 0)];
        string text = Path.GetTempFileName();
        try
        {
            using (var writer = new StreamWriter(text) { NewLine = "\n" })
            {
                for (int i = 0; i < Copies; i++)
                {
                    foreach (string line in lines)
                        writer.WriteLine(line);
                }
            }
            double megabytes = new FileInfo(text).Length * 1e-6;
            var tokenizer = T5Tokenizer.Load(vocabulary);
            var buffer = new TokenBuffer();
            double[] ours = new double[repeats];
            for (int i = -2; i < repeats; i++)
            {
                TimeSpan cpu = Environment.CpuUsage.TotalTime;
                for (int copy = 0; copy < Copies; copy++)
                {
                    foreach (string line in lines)
                        tokenizer.Encode(line, addEos: false, buffer);
                }
                if (i >= 0)
                    ours[i] = (Environment.CpuUsage.TotalTime - cpu).TotalSeconds;
            }
            Report("iptnative", Summary.At([.. ours.Order()], 0.5));

            ChildTime start = ChildProcess.Median(repeats, $"spm_encode --model='{vocabulary}' --output_format=id /dev/null");
            ChildTime all = ChildProcess.Median(repeats, $"spm_encode --model='{vocabulary}' --output_format=id '{text}'");
            Report("spm_encode", all.CpuSeconds - start.CpuSeconds);

            void Report(string what, double seconds)
            {
                Console.WriteLine($"{what,-12} {megabytes / seconds,6:f1} MB/s of CPU time ({megabytes:f1} MB in {seconds:f2} s)");
                ledger.Add("this repository's Markdown", what, "rate_p50", megabytes / seconds, "MB/s of CPU time");
            }
        }
        finally
        {
            File.Delete(text);
        }
    }
}
