// What an evaluation takes and gives. Deliberately not the work: see Evaluator.
using IptNative.Model.Decoding;
using IptNative.Tasks.Data;
using IptNative.Tasks.Metrics;
using IptNative.Tuning.Data;

namespace IptNative.Tuning.Evaluation;

/// <summary>Examples to answer behind one prompt. Several of them, of several tasks and prompts, share batches.</summary>
/// <param name="Examples">The examples.</param>
/// <param name="Prompt">Number of a prompt in the table; -1 for none.</param>
public sealed record EvaluationJob(EncodedExamples Examples, int Prompt = -1);

/// <summary>Settings of an evaluation. None of them changes an answer, save <see cref="MaxTargetLength"/> and <see cref="NumBeams"/>.</summary>
public sealed record EvaluationOptions
{
    /// <summary>Examples computed together, 1 or more.</summary>
    public int BatchSize { get; init; } = 64;

    /// <summary>
    /// Most positions of a batch, padding included; a single example may exceed it. Bounds the memory of the cross attention's keys and values, which is
    /// 8 bytes * num_layers * d_model per position: 300 MB for a T5-base at 4096.
    /// </summary>
    public int MaxBatchPositions { get; init; } = 4096;

    /// <summary>Most tokens of an answer, its end of sequence included; null takes the longest gold answer's and <see cref="Evaluator.AnswerSlack"/> more.</summary>
    public int? MaxTargetLength { get; init; }

    /// <summary>Beams of the search; 1 is greedy.</summary>
    public int NumBeams { get; init; } = 1;

    /// <summary>Checks the values.</summary>
    /// <exception cref="ArgumentException">A value is impossible.</exception>
    public void Validate()
    {
        Require(BatchSize, "batch_size");
        Require(MaxBatchPositions, "max_batch_positions");
        Require(MaxTargetLength ?? 1, "max_target_length");
        new GenerationOptions { NumBeams = NumBeams }.Validate();

        static void Require(int value, string name)
        {
            if (value < 1) throw new ArgumentException($"Evaluation: {name} is {value}; expected at least 1.");
        }
    }
}

/// <summary>Answers and scores of one job.</summary>
public sealed record EvaluationResult
{
    /// <summary>Task name.</summary>
    public required string Task { get; init; }

    /// <summary>The examples, in the order given.</summary>
    public required IReadOnlyList<TaskExample> Examples { get; init; }

    /// <summary>The model's answers, in the same order.</summary>
    public required IReadOnlyList<string> Predictions { get; init; }

    /// <summary>Log probability of each answer, its end included, under the model behind its prompt (divided by its length where beams were searched); empty where answers came from elsewhere.</summary>
    public IReadOnlyList<double> LogProbs { get; init; } = [];

    /// <summary>Score by metric; empty where the examples name no metric.</summary>
    public required IReadOnlyList<KeyValuePair<string, double>> Scores { get; init; }

    /// <summary>Arithmetic mean of the scores, which selects checkpoints; NaN where there is none.</summary>
    public required double Score { get; init; }

    /// <summary>Answers that reached the most tokens allowed before they ended.</summary>
    public required int Unfinished { get; init; }

    /// <summary>What the answers were among the known labels; null for tasks with free answers.</summary>
    public LabelStatistics? Labels { get; init; }
}

/// <summary>Mean and spread of a score over runs.</summary>
/// <param name="Mean">Arithmetic mean.</param>
/// <param name="StandardDeviation">Of the sample (n - 1); 0 for a single run.</param>
/// <param name="Count">Number of runs.</param>
public readonly record struct ScoreSpread(double Mean, double StandardDeviation, int Count)
{
    /// <summary>Mean and spread of some scores.</summary>
    /// <param name="scores">At least one.</param>
    /// <returns>The spread; NaN where a score is.</returns>
    /// <exception cref="ArgumentException">There are no scores.</exception>
    public static ScoreSpread Of(IReadOnlyList<double> scores)
    {
        ArgumentNullException.ThrowIfNull(scores);
        if (scores.Count == 0) throw new ArgumentException("Mean over runs: 0 scores; expected at least 1.", nameof(scores));
        double mean = scores.Average();
        return new ScoreSpread(mean, scores.Count == 1 ? 0 : Math.Sqrt(scores.Sum(s => (s - mean) * (s - mean)) / (scores.Count - 1)), scores.Count);
    }
}
