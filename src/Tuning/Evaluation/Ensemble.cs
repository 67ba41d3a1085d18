// Several prompts of one task answering together. Deliberately not: answering, which Evaluator does for all of them in one batch.
using IptNative.Tuning.Data;

namespace IptNative.Tuning.Evaluation;

/// <summary>An ensemble's answers and scores beside its members'.</summary>
/// <param name="Result">The answers that won the votes.</param>
/// <param name="Members">Mean and spread of the members' scores.</param>
/// <param name="Best">The best member's number.</param>
/// <param name="Unanimous">Examples on which all members agree.</param>
/// <param name="Ties">Examples on which the log probabilities had to decide.</param>
public sealed record EnsembleResult(EvaluationResult Result, ScoreSpread Members, int Best, int Unanimous, int Ties)
{
    /// <summary>The ensemble's name in lists of predictions.</summary>
    public const string Name = "ensemble";
}

/// <summary>Prompt ensembling: a majority vote per example.</summary>
/// <remarks>
/// Ties go to the answer with the highest mean log probability over the prompts that gave it, then to the prompt that was named first.
/// Source: Lester et al. 2021, section 6 (five prompts, simple majority voting; the tie rule is ours, the paper states none).
/// </remarks>
public static class Ensemble
{
    /// <summary>Votes.</summary>
    /// <param name="examples">The examples that all members answered.</param>
    /// <param name="members">One result per prompt, two or more, with log probabilities.</param>
    /// <returns>The winners and their scores.</returns>
    /// <exception cref="ArgumentException">There are fewer than two members, or they answered other examples.</exception>
    public static EnsembleResult Vote(EncodedExamples examples, IReadOnlyList<EvaluationResult> members)
    {
        ArgumentNullException.ThrowIfNull(examples);
        ArgumentNullException.ThrowIfNull(members);
        if (members.Count < 2)
            throw new ArgumentException($"Ensemble: found {members.Count} prompts, expected two or more.", nameof(members));
        foreach (EvaluationResult member in members)
        {
            if (member.Predictions.Count != examples.Count || member.LogProbs.Count != examples.Count)
                throw new ArgumentException($"Ensemble: a member has {member.Predictions.Count} answers and {member.LogProbs.Count} log probabilities, expected {examples.Count} of each.", nameof(members));
        }
        string[] answers = new string[examples.Count];
        int unanimous = 0, ties = 0;
        for (int i = 0; i < answers.Length; i++)
        {
            // GroupBy keeps the order of first appearance, and OrderBy keeps it among equals.
            var votes = members.GroupBy(m => m.Predictions[i], StringComparer.Ordinal)
                .Select(g => (Answer: g.Key, Count: g.Count(), LogProb: g.Average(m => m.LogProbs[i])))
                .OrderByDescending(v => v.Count).ThenByDescending(v => v.LogProb).ToArray();
            answers[i] = votes[0].Answer;
            if (votes.Length == 1)
                unanimous++;
            else if (votes[1].Count == votes[0].Count)
                ties++;
        }
        double[] scores = [.. members.Select(m => m.Score)];
        return new EnsembleResult(Evaluator.Score(examples, answers), ScoreSpread.Of(scores), Array.IndexOf(scores, scores.Max()), unanimous, ties);
    }
}
