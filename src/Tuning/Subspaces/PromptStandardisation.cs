// The scale of prompts. Trained prompts of a T5 have a root mean square of 30 to 50 where those of BART had 0.02, so that a weight of the reconstruction loss
// means something only in standardised units. Deliberately a factor without a mean: the decoder's bias learns that.
using IptNative.Tuning.Prompts;

namespace IptNative.Tuning.Subspaces;

/// <summary>Standardised prompt = prompt / scale.</summary>
public sealed record PromptStandardisation
{
    /// <summary>Scale 1.</summary>
    public static PromptStandardisation None { get; } = new();

    /// <summary>Which scale a prompt gets.</summary>
    public StandardisationKind Kind { get; init; }

    /// <summary>The scale of all prompts; with <see cref="StandardisationKind.Task"/> the geometric mean of the tasks' scales, for a task that has none.</summary>
    public float Scale { get; init; } = 1;

    /// <summary>Root mean square of each source task's prompts; empty unless <see cref="StandardisationKind.Task"/>.</summary>
    public IReadOnlyDictionary<string, float> TaskScales { get; init; } = new SortedDictionary<string, float>(StringComparer.Ordinal);

    /// <summary>Takes the scales from trained prompts.</summary>
    /// <param name="kind">Which scales.</param>
    /// <param name="prompts">Each task's prompts, one or several runs; none empty.</param>
    /// <returns>The scales.</returns>
    /// <exception cref="ArgumentException">No prompts, or a task whose prompts are all zero.</exception>
    public static PromptStandardisation Fit(StandardisationKind kind, IReadOnlyDictionary<string, IReadOnlyList<Prompt>> prompts)
    {
        ArgumentNullException.ThrowIfNull(prompts);
        if (kind == StandardisationKind.None)
            return None;
        var scales = new SortedDictionary<string, float>(StringComparer.Ordinal);
        double squares = 0, logs = 0;
        long count = 0;
        foreach ((string task, IReadOnlyList<Prompt> runs) in prompts.OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            (double taskSquares, long taskCount) = Squares(runs);
            if (!(taskSquares > 0 && double.IsFinite(taskSquares)))
                throw new ArgumentException($"standardising prompts: those of task '{task}' have a sum of squares of {taskSquares} over {taskCount} numbers, expected a finite one above 0. Train that task's prompt again.", nameof(prompts));
            scales[task] = (float)Math.Sqrt(taskSquares / taskCount);
            logs += Math.Log(scales[task]);
            squares += taskSquares;
            count += taskCount;
        }
        if (count == 0)
            throw new ArgumentException("standardising prompts: found none, expected at least one task with one prompt.", nameof(prompts));
        return kind == StandardisationKind.Global
            ? new PromptStandardisation { Kind = kind, Scale = (float)Math.Sqrt(squares / count) }
            : new PromptStandardisation { Kind = kind, Scale = (float)Math.Exp(logs / scales.Count), TaskScales = scales };
    }

    /// <summary>The scale of a source task, or of a task that the subspace has not seen.</summary>
    /// <param name="task">The task, or null.</param>
    /// <returns>Above 0.</returns>
    public float ScaleOf(string? task) => task is not null && TaskScales.TryGetValue(task, out float scale) ? scale : Scale;

    /// <summary>The scale to encode a prompt with that was trained on a task the subspace has not seen: with <see cref="StandardisationKind.Task"/> its own.</summary>
    /// <param name="prompt">A trained prompt.</param>
    /// <returns>Above 0.</returns>
    /// <exception cref="ArgumentException">The prompt is all zero.</exception>
    public float ScaleOf(Prompt prompt)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        if (Kind != StandardisationKind.Task)
            return Scale;
        (double squares, long count) = Squares([prompt]);
        return squares > 0 ? (float)Math.Sqrt(squares / count) : throw new ArgumentException("standardising a prompt: all its numbers are 0, expected a trained prompt.", nameof(prompt));
    }

    internal void Validate(string who)
    {
        foreach ((string task, float scale) in TaskScales.Append(new KeyValuePair<string, float>("", Scale)))
        {
            if (!(scale > 0 && float.IsFinite(scale)))
                throw new ArgumentException($"{who}: the scale{(task.Length > 0 ? $" of task '{task}'" : "")} is {scale}, expected a finite number above 0.");
        }
    }

    /// <inheritdoc/>
    public bool Equals(PromptStandardisation? other) =>
        other is not null && Kind == other.Kind && Scale == other.Scale && TaskScales.Count == other.TaskScales.Count && TaskScales.All(p => other.TaskScales.TryGetValue(p.Key, out float s) && s == p.Value);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Kind, Scale, TaskScales.Count);

    private static (double Sum, long Count) Squares(IReadOnlyList<Prompt> prompts) =>
        (prompts.Sum(p => p.Values.Sum(v => (double)v * v)), prompts.Sum(p => (long)p.Values.Length));
}
