// Answers of a frozen model for many examples behind many prompts, and their scores. Deliberately not: sampling (TextGenerator), training.
using IptNative.Model.Decoding;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;
using IptNative.Tasks.Casting;
using IptNative.Tasks.Metrics;
using IptNative.Tuning.Data;

namespace IptNative.Tuning.Evaluation;

/// <summary>Evaluates prompts on examples, several side by side in the same batches.</summary>
/// <remarks>
/// Examples are sorted by answer limit and length, longest first, so that batches pad little and memory peaks at once; results come in the order given.
/// An answer does not depend on its neighbours: padding is masked, and a limit is its own job's. What remains is the rounding of sums in batches of
/// another shape, which could decide only between two tokens whose logits agree to about six digits.
/// </remarks>
/// <param name="model">The frozen model; not thread-safe, so no other pass may run meanwhile.</param>
/// <param name="tokenizer">Its tokenizer.</param>
public sealed class Evaluator(FrozenT5 model, T5Tokenizer tokenizer)
{
    /// <summary>Tokens allowed beyond the longest gold answer: an article or a full stop, which metrics forgive.</summary>
    public const int AnswerSlack = 4;

    private readonly record struct Item(int Job, int Example, int Length, int Limit);

    private readonly T5Batch _batch = new();

    /// <summary>Answers and scores jobs.</summary>
    /// <param name="jobs">At least one.</param>
    /// <param name="prompts">The table that the jobs' prompt numbers mean; null where none has a prompt.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="progress">Told after each batch how many examples are done, of how many.</param>
    /// <param name="cancel">Ends the work between two tokens.</param>
    /// <returns>One result per job.</returns>
    /// <exception cref="ArgumentException">There are no jobs, a prompt is not in the table, or a metric is unknown or lacks labels.</exception>
    /// <exception cref="InvalidDataException">The model's logits are not finite, or a gold answer is not what the metric needs.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> was set.</exception>
    public IReadOnlyList<EvaluationResult> Evaluate(IReadOnlyList<EvaluationJob> jobs, PromptTable? prompts = null, EvaluationOptions? options = null, Action<int, int>? progress = null, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(jobs);
        if (jobs.Count == 0)
            throw new ArgumentException("Evaluation: found 0 jobs, expected at least 1.", nameof(jobs));
        options ??= new EvaluationOptions();
        options.Validate();
        Item[] items = Order(jobs, prompts, options);
        string[][] answers = [.. jobs.Select(j => new string[j.Examples.Count])];
        double[][] logProbs = [.. jobs.Select(j => new double[j.Examples.Count])];
        int[] unfinished = new int[jobs.Count];
        for (int done = 0; done < items.Length;)
        {
            int count = BatchAt(items, done, options);
            ReadOnlySpan<Item> batch = items.AsSpan(done, count);
            IReadOnlyList<GeneratedSequence>[] sequences = Generate(jobs, batch, prompts, options.NumBeams, cancel);
            for (int i = 0; i < count; i++)
            {
                Item item = batch[i];
                int[] ids = sequences[i][0].Ids;
                logProbs[item.Job][item.Example] = sequences[i][0].Score;
                if (ids.Length >= item.Limit)
                {
                    // A neighbour's limit may be higher than its own.
                    unfinished[item.Job]++;
                    ids = ids[..item.Limit];
                }
                answers[item.Job][item.Example] = Text(ids, jobs[item.Job].Examples.Options.Sentinel);
            }
            done += count;
            progress?.Invoke(done, items.Length);
        }
        // What follows may be a training step.
        model.ReleaseIdle();
        return [.. jobs.Select((job, j) => Score(job.Examples, answers[j], unfinished[j]) with { LogProbs = logProbs[j] })];
    }

    /// <summary>Scores answers that are there already.</summary>
    /// <param name="examples">The examples.</param>
    /// <param name="predictions">One text per example.</param>
    /// <param name="unfinished">How many of them were cut.</param>
    /// <returns>The result.</returns>
    /// <exception cref="ArgumentException">There are more or fewer answers than examples, or a metric is unknown or lacks labels.</exception>
    /// <exception cref="InvalidDataException">A gold answer is not what the metric needs.</exception>
    public static EvaluationResult Score(EncodedExamples examples, IReadOnlyList<string> predictions, int unfinished = 0)
    {
        ArgumentNullException.ThrowIfNull(examples);
        (IReadOnlyList<KeyValuePair<string, double>> scores, double mean) = examples.Metrics.Count == 0 ? ([], double.NaN) : Metric.ScoreAll(examples.Metrics, predictions, examples.Examples, examples.Labels);
        return new EvaluationResult
        {
            Task = examples.Task,
            Examples = examples.Examples,
            Predictions = predictions,
            Scores = scores,
            Score = mean,
            Unfinished = unfinished,
            Labels = examples.Labels.Count == 0 ? null : LabelStatistics.Count(predictions, examples.Examples, examples.Labels),
        };
    }

    private static Item[] Order(IReadOnlyList<EvaluationJob> jobs, PromptTable? prompts, EvaluationOptions options)
    {
        var items = new List<Item>();
        for (int j = 0; j < jobs.Count; j++)
        {
            (EncodedExamples examples, int prompt) = jobs[j];
            if (prompt < -1 || prompt >= (prompts?.Count ?? 0))
                throw new ArgumentException($"Evaluation: job {j} (task {examples.Task}) wants prompt {prompt}, the table has {prompts?.Count ?? 0}; expected one of them, or -1 for none.", nameof(jobs));
            int rows = prompt < 0 || examples.Options.Template is not null ? 0 : prompts!.Length(prompt); // the table has the prompt, so it is there
            int limit = options.MaxTargetLength ?? examples.LongestAnswer + AnswerSlack;
            for (int i = 0; i < examples.Count; i++)
                items.Add(new Item(j, i, rows + examples.InputIds(i).Length, limit));
        }
        // Stable, so that the same jobs make the same batches.
        return [.. items.OrderByDescending(i => i.Limit).ThenByDescending(i => i.Length)];
    }

    private static int BatchAt(Item[] items, int start, EvaluationOptions options)
    {
        int count = 1;
        int longest = items[start].Length;
        for (; start + count < items.Length && count < options.BatchSize; count++)
        {
            longest = Math.Max(longest, items[start + count].Length);
            if ((long)longest * (count + 1) * options.NumBeams > options.MaxBatchPositions) break;
            // A greedy answer can be cut to its own limit afterwards; a beam search with a higher one is another search.
            if (options.NumBeams > 1 && items[start + count].Limit != items[start].Limit) break;
        }
        return count;
    }

    private IReadOnlyList<GeneratedSequence>[] Generate(IReadOnlyList<EvaluationJob> jobs, ReadOnlySpan<Item> items, PromptTable? prompts, int beams, CancellationToken cancel)
    {
        _batch.Clear();
        foreach (Item item in items)
            jobs[item.Job].Examples.AddTo(_batch, item.Example, jobs[item.Job].Prompt, withLabels: false);
        EncodedBatch encoded = model.Encode(_batch, prompts);
        using IStepDecoder decoder = model.StartDecoding(encoded);
        // Sorted by limit: the first has the highest.
        return Generator.Generate(decoder, new GenerationOptions { MaxLength = items[0].Limit, NumBeams = beams }, model.Config.DecoderStartTokenId, model.Config.EosTokenId, cancellationToken: cancel);
    }

    private string Text(int[] ids, bool sentinel) =>
        sentinel ? TaskText.WithoutSentinel(tokenizer.Decode(ids)) : tokenizer.Decode(ids, skipSentinels: true);
}
