// What the server counts, in Prometheus' text format. Deliberately not: logs, traces.
using System.Globalization;
using System.Text;

namespace IptNative.Server;

/// <summary>Counters and histograms; every member may be called by any thread.</summary>
internal sealed class ServerMetrics
{
    private static readonly double[] Seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
    private static readonly double[] Texts = [1, 2, 4, 8, 16, 32, 64, 128];

    private readonly Lock _lock = new();
    private readonly SortedDictionary<(string Route, int Status), long> _requests = [];
    private readonly Histogram _requestSeconds = new(Seconds);
    private readonly Histogram _firstTokenSeconds = new(Seconds);
    private readonly Histogram _batchTexts = new(Texts);
    private long _inputTokens;
    private long _generatedTokens;
    private long _failedPasses;
    private long _abandoned;

    public void Answered(string route, int status)
    {
        lock (_lock)
            _requests[(route, status)] = _requests.GetValueOrDefault((route, status)) + 1;
    }

    public void Completed(TimeSpan time, int inputTokens, int generatedTokens)
    {
        lock (_lock)
        {
            _requestSeconds.Add(time.TotalSeconds);
            _inputTokens += inputTokens;
            _generatedTokens += generatedTokens;
        }
    }

    public long AbandonedCompletions => Interlocked.Read(ref _abandoned);

    public void Abandoned() => Interlocked.Increment(ref _abandoned);

    public void FirstToken(TimeSpan time)
    {
        lock (_lock)
            _firstTokenSeconds.Add(time.TotalSeconds);
    }

    public void Stepped(int texts)
    {
        if (texts == 0)
            return;
        lock (_lock)
            _batchTexts.Add(texts);
    }

    public void PassFailed() => Interlocked.Increment(ref _failedPasses);

    /// <summary>The time that one request took lately, for Retry-After.</summary>
    public double MeanSeconds
    {
        get
        {
            lock (_lock)
                return _requestSeconds.Mean;
        }
    }

    /// <summary>All figures.</summary>
    /// <param name="waiting">Texts in the queue now.</param>
    /// <param name="running">Texts that are being generated now.</param>
    /// <param name="prompts">Prompts served now.</param>
    public string Write(int waiting, int running, int prompts)
    {
        var text = new StringBuilder();
        lock (_lock)
        {
            Head("iptnative_requests_total", "counter", "Requests answered, by route and status.");
            foreach (((string route, int status), long count) in _requests)
                text.Append(CultureInfo.InvariantCulture, $"iptnative_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n");
            Single("iptnative_abandoned_total", "counter", "Completions whose client left before the end.", AbandonedCompletions);
            Single("iptnative_failed_passes_total", "counter", "Passes of the model that failed.", Interlocked.Read(ref _failedPasses));
            Single("iptnative_input_tokens_total", "counter", "Tokens of inputs answered, prompt rows not included.", _inputTokens);
            Single("iptnative_generated_tokens_total", "counter", "Tokens generated for answered requests.", _generatedTokens);
            Single("iptnative_waiting_texts", "gauge", "Texts that wait for room in the batch.", waiting);
            Single("iptnative_running_texts", "gauge", "Texts that are being generated.", running);
            Single("iptnative_prompts", "gauge", "Prompts that can be named, the bare model included.", prompts);
            Single("process_resident_memory_bytes", "gauge", "Memory of the process.", Environment.WorkingSet);
            Spread("iptnative_request_seconds", "Time of an answered completion from its last byte in to its last byte out.", _requestSeconds);
            Spread("iptnative_first_token_seconds", "Time from the queue to a text's first token.", _firstTokenSeconds);
            Spread("iptnative_batch_texts", "Texts per step of a batch; a small model has a batch per core.", _batchTexts);
        }
        return text.ToString();

        void Head(string name, string type, string help) => text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n");

        void Single(string name, string type, string help, long value)
        {
            Head(name, type, help);
            text.Append(CultureInfo.InvariantCulture, $"{name} {value}\n");
        }

        void Spread(string name, string help, Histogram histogram)
        {
            Head(name, "histogram", help);
            histogram.Write(text, name);
        }
    }

    private sealed class Histogram(double[] limits)
    {
        private readonly long[] _counts = new long[limits.Length];
        private double _sum;
        private long _count;

        public double Mean => _count == 0 ? 0 : _sum / _count;

        public void Add(double value)
        {
            _sum += value;
            _count++;
            int at = Array.FindIndex(limits, limit => value <= limit);
            if (at >= 0)
                _counts[at]++;
        }

        public void Write(StringBuilder text, string name)
        {
            long below = 0;
            for (int i = 0; i < limits.Length; i++)
                text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{le=\"{limits[i]}\"}} {below += _counts[i]}\n");
            text.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{le=\"+Inf\"}} {_count}\n{name}_sum {_sum}\n{name}_count {_count}\n");
        }
    }
}
