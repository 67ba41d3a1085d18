// A task's examples as token ids, tokenised once. Deliberately not: batches (BatchOrder), prompts, padding.
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Casting;
using IptNative.Tasks.Data;
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Data;

/// <summary>How text becomes ids.</summary>
public sealed record EncodingOptions
{
    /// <summary>Puts "[task] " before every input, as CrossFit and IPT do; Lester et al. leave it out.</summary>
    public bool TaskPrefix { get; init; }

    /// <summary>Puts &lt;extra_id_0&gt; before every target, for models that saw nothing but span corruption (Lester et al. 2021, section 3.2).</summary>
    public bool Sentinel { get; init; }

    /// <summary>Most tokens of an input, its end of sequence included and the prompt not (Lester et al.: 512 with the prompt on top); 2 or more.</summary>
    public int MaxSourceLength { get; init; } = 512;

    /// <summary>Most tokens of a target, its end of sequence included; 2 or more.</summary>
    public int MaxTargetLength { get; init; } = 64;

    /// <summary>Most positions of prompt and input together; null for no limit of their own (IPT: 512).</summary>
    public int? MaxTotalLength { get; init; }

    /// <summary>Rows of the longest prompt that will stand before the inputs; only read where <see cref="MaxTotalLength"/> is set.</summary>
    public int PromptLength { get; init; }

    /// <summary>Where prompt and input stand; null puts the prompt first.</summary>
    public PromptTemplate? Template { get; init; }

    /// <summary>Tokens that an input may have under all limits.</summary>
    /// <returns>2 or more.</returns>
    /// <exception cref="ArgumentException">A limit leaves no room for a token and the end of sequence.</exception>
    public int SourceLimit()
    {
        if (MaxSourceLength < 2) throw new ArgumentException($"Encoding: max_source_length is {MaxSourceLength}; expected at least 2, a token and the end of sequence.");
        if (MaxTargetLength < 2) throw new ArgumentException($"Encoding: max_target_length is {MaxTargetLength}; expected at least 2, a token and the end of sequence.");
        if (PromptLength < 0) throw new ArgumentException($"Encoding: the prompt has {PromptLength} rows; expected 0 or more.");
        if (MaxTotalLength is not { } total) return MaxSourceLength;
        return total - PromptLength >= 2
            ? Math.Min(MaxSourceLength, total - PromptLength)
            : throw new ArgumentException($"Encoding: the prompt has {PromptLength} rows, prompt and text may have {total} positions together: {total - PromptLength} are left for the text, expected at least 2. Shorten the prompt, or allow more positions.");
    }
}

/// <summary>Examples as ids, beside their text and what they are scored by.</summary>
public sealed class EncodedExamples
{
    private readonly int[] _inputIds;
    private readonly int[] _inputStarts;
    private readonly int[] _labelIds;
    private readonly int[] _labelStarts;

    // Place of each example's first answer in _labelStarts; its others follow.
    private readonly int[] _firstAnswers;

    private EncodedExamples(T5Tokenizer tokenizer, string task, IReadOnlyList<TaskExample> examples, EncodingOptions options)
    {
        int sourceLimit = options.SourceLimit();
        if (options.Sentinel && tokenizer.SentinelCount == 0)
            throw new ArgumentException($"Encoding task {task}: targets are to start with <extra_id_0>, the tokenizer has no sentinels. Leave the sentinel out.", nameof(options));
        if (examples.Count == 0)
            throw new ArgumentException($"Encoding task {task}: found 0 examples, expected at least 1.", nameof(examples));
        (Task, Examples, Options) = (task, examples, options);
        var buffer = new TokenBuffer();
        var inputs = new List<int>();
        var labels = new List<int>();
        _inputStarts = new int[examples.Count + 1];
        _firstAnswers = new int[examples.Count + 1];
        var starts = new List<int> { 0 };
        for (int i = 0; i < examples.Count; i++)
        {
            TaskExample example = examples[i];
            string input = options.TaskPrefix ? TaskText.WithPrefix(task, example.Input) : example.Input;
            if (options.Template is { } template ? template.Encode(tokenizer, input, sourceLimit, inputs) : Append(tokenizer, input, sourceLimit, buffer, inputs)) CutInputs++;
            bool cut = false;
            foreach (string answer in example.Answers)
            {
                cut |= Append(tokenizer, Target(answer), options.MaxTargetLength, buffer, labels);
                LongestAnswer = Math.Max(LongestAnswer, labels.Count - starts[^1]);
                starts.Add(labels.Count);
            }
            if (cut) CutTargets++;
            _inputStarts[i + 1] = inputs.Count;
            _firstAnswers[i + 1] = starts.Count - 1;
            LongestInput = Math.Max(LongestInput, inputs.Count - _inputStarts[i]);
        }
        (_inputIds, _labelIds, _labelStarts) = ([.. inputs], [.. labels], [.. starts]);

        string Target(string answer) => options.Sentinel ? TaskText.WithSentinel(answer) : answer;
    }

    /// <summary>Task name.</summary>
    public string Task { get; }

    /// <summary>The examples as text: gold answers and groups for the metrics.</summary>
    public IReadOnlyList<TaskExample> Examples { get; }

    /// <summary>How they were encoded.</summary>
    public EncodingOptions Options { get; }

    /// <summary>Metric names; at least one where the examples are to be scored.</summary>
    public IReadOnlyList<string> Metrics { get; private init; } = [];

    /// <summary>Known labels; empty for tasks with free answers.</summary>
    public IReadOnlyList<string> Labels { get; private init; } = [];

    /// <summary>Number of examples.</summary>
    public int Count => Examples.Count;

    /// <summary>Tokens of the longest input, its end of sequence included.</summary>
    public int LongestInput { get; }

    /// <summary>Tokens of the longest of all gold answers, its end of sequence included, at most MaxTargetLength.</summary>
    public int LongestAnswer { get; }

    /// <summary>Inputs that were cut to the limit.</summary>
    public int CutInputs { get; }

    /// <summary>Examples with an answer that was cut to the limit.</summary>
    public int CutTargets { get; }

    /// <summary>Encodes a split of a task, with its metrics and labels.</summary>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="data">The task.</param>
    /// <param name="split">train, dev or test.</param>
    /// <param name="options">How.</param>
    /// <param name="limit">Takes only the first examples; null for all.</param>
    /// <returns>The examples.</returns>
    /// <exception cref="ArgumentException">The split, the limit or an option is impossible.</exception>
    /// <exception cref="InvalidDataException">The task has no examples of that split.</exception>
    public static EncodedExamples Encode(T5Tokenizer tokenizer, TaskData data, string split, EncodingOptions options, int? limit = null)
    {
        ArgumentNullException.ThrowIfNull(data);
        if (limit < 1) throw new ArgumentException($"Encoding task {data.Name}: the limit is {limit} examples; expected at least 1.", nameof(limit));
        IReadOnlyList<TaskExample> examples = data.Require(split);
        return Encode(tokenizer, data.Name, limit < examples.Count ? [.. examples.Take(limit.Value)] : examples, options, data.Metrics, data.Labels);
    }

    /// <summary>Encodes examples.</summary>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="task">Task name, for the prefix and for messages.</param>
    /// <param name="examples">At least one.</param>
    /// <param name="options">How.</param>
    /// <param name="metrics">Metric names; empty where nothing is scored.</param>
    /// <param name="labels">Known labels.</param>
    /// <returns>The examples.</returns>
    /// <exception cref="ArgumentException">There are no examples, or an option is impossible.</exception>
    public static EncodedExamples Encode(T5Tokenizer tokenizer, string task, IReadOnlyList<TaskExample> examples, EncodingOptions options, IReadOnlyList<string>? metrics = null, IReadOnlyList<string>? labels = null)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentException.ThrowIfNullOrEmpty(task);
        ArgumentNullException.ThrowIfNull(examples);
        ArgumentNullException.ThrowIfNull(options);
        return new EncodedExamples(tokenizer, task, examples, options) { Metrics = metrics ?? [], Labels = labels ?? [] };
    }

    /// <summary>Token ids of an input, end of sequence last.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>A view; 1 or more ids.</returns>
    public ReadOnlySpan<int> InputIds(int example) => _inputIds.AsSpan(_inputStarts[example].._inputStarts[example + 1]);

    /// <summary>How many gold answers an example has.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <returns>1 or more.</returns>
    public int AnswerCount(int example) => _firstAnswers[example + 1] - _firstAnswers[example];

    /// <summary>Adds an example to a batch.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <param name="prompt">Its prompt in the pass's table; -1 for none, which a template refuses.</param>
    /// <param name="withLabels">Whether the target is scored.</param>
    /// <param name="answer">Which gold answer is the target.</param>
    internal void AddTo(T5Batch batch, int example, int prompt, bool withLabels, int answer = 0)
    {
        ReadOnlySpan<int> labels = withLabels ? LabelIds(example, answer) : default;
        if (Options.Template is null)
            batch.Add(InputIds(example), labels, prompt);
        else
            batch.AddTemplate(InputIds(example), labels, prompt);
    }

    /// <summary>Token ids of a target, end of sequence last.</summary>
    /// <param name="example">0 to <see cref="Count"/> - 1.</param>
    /// <param name="answer">0 to <see cref="AnswerCount"/> - 1.</param>
    /// <returns>A view; 1 or more ids.</returns>
    public ReadOnlySpan<int> LabelIds(int example, int answer = 0) => _labelIds.AsSpan(_labelStarts[_firstAnswers[example] + answer].._labelStarts[_firstAnswers[example] + answer + 1]);

    /// <summary>Tokens of each input, for length-bucketed batches.</summary>
    /// <returns>One length per example.</returns>
    public int[] InputLengths() => [.. Enumerable.Range(0, Count).Select(i => _inputStarts[i + 1] - _inputStarts[i])];

    // T5 cuts before it appends the end of sequence (trim_and_append_eos), and so do Hugging Face's tokenizers: a cut text still ends.
    private static bool Append(T5Tokenizer tokenizer, string text, int limit, TokenBuffer buffer, List<int> ids)
    {
        tokenizer.Encode(text, addEos: true, buffer);
        if (buffer.Count <= limit)
        {
            ids.AddRange(buffer.Ids);
            return false;
        }
        ids.AddRange(buffer.Ids[..(limit - 1)]);
        ids.Add(tokenizer.EosId);
        return true;
    }
}
