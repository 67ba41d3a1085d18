// Prompts of some tasks scored on others, without further training. Deliberately not: training them, choosing among them (a run's best/ is chosen on its own dev split).
using IptNative.Model.Forward;
using IptNative.Tuning.Data;

namespace IptNative.Tuning.Evaluation;

/// <summary>Prompts of one source task; several are several seeds.</summary>
/// <param name="Task">The source.</param>
/// <param name="Prompts">Numbers in the table; empty is the model without a prompt.</param>
public sealed record TransferSource(string Task, IReadOnlyList<int> Prompts);

/// <summary>A task to score on.</summary>
/// <param name="Examples">Its examples.</param>
/// <param name="Words">Answers of other tasks' label sets and what they mean here: duplicate, equivalent. An answer that is no key stays what it is.</param>
public sealed record TransferTarget(EncodedExamples Examples, IReadOnlyDictionary<string, string> Words);

/// <summary>Scores by source and target.</summary>
/// <param name="Sources">The lines.</param>
/// <param name="Targets">The columns.</param>
/// <param name="Scores">[source][target]: mean and spread over the source's prompts.</param>
public sealed record TransferMatrix(IReadOnlyList<string> Sources, IReadOnlyList<string> Targets, IReadOnlyList<IReadOnlyList<ScoreSpread>> Scores)
{
    /// <summary>A score as a share of what the target's own prompts reach.</summary>
    /// <param name="source">Line.</param>
    /// <param name="target">Column.</param>
    /// <returns>NaN where the target has no prompts of its own, or theirs score 0.</returns>
    public double Relative(int source, int target)
    {
        int own = Enumerable.Range(0, Sources.Count).FirstOrDefault(s => Sources[s] == Targets[target], -1);
        return own >= 0 && Scores[own][target].Mean > 0 ? Scores[source][target].Mean / Scores[own][target].Mean : double.NaN;
    }
}

/// <summary>Measures zero-shot transfer.</summary>
public static class TaskTransfer
{
    /// <summary>Scores every source on every target; all share batches.</summary>
    /// <param name="evaluator">The model.</param>
    /// <param name="prompts">The table; null where no source has a prompt.</param>
    /// <param name="sources">At least one.</param>
    /// <param name="targets">At least one.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="progress">As <see cref="Evaluator.Evaluate"/>.</param>
    /// <param name="cancel">Ends the work between two tokens.</param>
    /// <returns>The matrix.</returns>
    /// <exception cref="ArgumentException">There are no sources or targets, or as <see cref="Evaluator.Evaluate"/>.</exception>
    public static TransferMatrix Measure(Evaluator evaluator, PromptTable? prompts, IReadOnlyList<TransferSource> sources, IReadOnlyList<TransferTarget> targets, EvaluationOptions? options = null, Action<int, int>? progress = null, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(evaluator);
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(targets);
        if (sources.Count == 0 || targets.Count == 0)
            throw new ArgumentException($"Transfer: found {sources.Count} sources and {targets.Count} targets, expected at least one of each.", nameof(sources));
        var jobs = new List<EvaluationJob>();
        var places = new List<(int Source, TransferTarget Target, int Column)>();
        for (int s = 0; s < sources.Count; s++)
        {
            foreach ((int column, TransferTarget target) in targets.Index())
            {
                foreach (int prompt in sources[s].Prompts.DefaultIfEmpty(-1))
                {
                    jobs.Add(new EvaluationJob(target.Examples, prompt));
                    places.Add((s, target, column));
                }
            }
        }
        IReadOnlyList<EvaluationResult> results = evaluator.Evaluate(jobs, prompts, options, progress, cancel);
        ILookup<(int, int), double> scores = places.Zip(results).ToLookup(r => (r.First.Source, r.First.Column), r => Translated(r.First.Target, r.Second).Score);
        return new TransferMatrix([.. sources.Select(s => s.Task)], [.. targets.Select(t => t.Examples.Task)],
            [.. Enumerable.Range(0, sources.Count).Select(s => (IReadOnlyList<ScoreSpread>)[.. Enumerable.Range(0, targets.Count).Select(t => ScoreSpread.Of([.. scores[(s, t)]]))])]);
    }

    private static EvaluationResult Translated(TransferTarget target, EvaluationResult result) => target.Words.Count == 0 ? result
        : Evaluator.Score(target.Examples, [.. result.Predictions.Select(p => target.Words.GetValueOrDefault(p.Trim(), p))], result.Unfinished);
}
