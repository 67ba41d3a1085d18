// Intrinsic tuning by searches on the full few-shot batch: L-BFGS with gradients, CMA-ES with forward passes only. Deliberately without a state of its own: a search
// asks the same questions when it is told the same answers, and those are kept (SearchLog).
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Optimizers;
using IptNative.Tuning.Evaluation;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>What one search found: the vector with the best dev score among those with the lowest loss so far.</summary>
/// <param name="Z">d_I numbers.</param>
/// <param name="Dev">Its dev score.</param>
internal sealed record VectorOutcome(float[] Z, double Dev);

/// <summary>One search per run, all evaluated in one pass a turn.</summary>
internal sealed class VectorSearch(PromptSubspace subspace, TrainingRow[] runs, float[] scales, IstSection options, GradientPass pass, MicroBatchLimit limit, Evaluator evaluator, EvaluationOptions evaluation, SearchLog log)
{
    // The model sums a loss in float: smaller decreases are not told from rises.
    private const double Noise = 1e-6;

    // Prompts decoded at once: a generation of many runs at T5-base size would be gigabytes.
    private const int MostPrompts = 64;

    private readonly PromptLoss _loss = new(pass, MostPrompts, options.Loss.Reduction, limit);

    /// <summary>Searches until the steps are done; goes on where the log ends.</summary>
    /// <param name="start">[runs, d_I].</param>
    /// <param name="curves">Of the runs.</param>
    /// <param name="cancel">Looked at between turns; what was found so far is kept.</param>
    /// <exception cref="OperationCanceledException"><paramref name="cancel"/> was set.</exception>
    public VectorOutcome[] Run(float[] start, TrainingCurves curves, CancellationToken cancel)
    {
        int d = subspace.IntrinsicDim;
        long steps = options.Training.Steps;
        SearchOptimizer[] searches = [.. runs.Select((run, i) => Create(start.AsSpan(i * d, d), run.Row.Seed + (1_000_003L * i)))];
        var best = new VectorOutcome[runs.Length];
        for (int i = 0; i < best.Length; i++)
            best[i] = new VectorOutcome(start[(i * d)..((i + 1) * d)], double.NaN);
        var seen = new double[runs.Length];
        Array.Fill(seen, double.PositiveInfinity);
        for (long turn = 1; turn <= steps; turn++)
        {
            if (cancel.IsCancellationRequested)
            {
                log.Save(turn - 1);
                throw new OperationCanceledException(cancel);
            }
            int asked = SearchBatch.Turn(searches, Evaluate);
            curves.Report(turn, $"turn {turn}/{steps}");
            for (int i = 0; i < searches.Length; i++)
            {
                if (asked > 0 && double.IsFinite(searches[i].BestLoss))
                    curves.Add(i, turn, searches[i].BestLoss);
            }
            bool last = turn == steps || asked == 0;
            if (turn % options.Training.EvalEvery == 0 || last)
            {
                Select(searches, best, seen, turn, curves);
                log.Save(turn);
            }
            if (last)
                break;
        }
        for (int i = 0; i < searches.Length; i++)
        {
            // A search that broke off still has a best point from before, unless there is none.
            if (searches[i].Status == SearchStatus.Failed && !double.IsFinite(searches[i].BestLoss))
                curves.Fail(i, $"{runs[i].Row.Task}: {searches[i].Reason}.");
        }
        return best;
    }

    private SearchOptimizer Create(ReadOnlySpan<float> start, long seed)
    {
        double[] from = [.. start.ToArray().Select(v => (double)v)];
        long steps = options.Training.Steps;
        return options.Search == IstSearch.Lbfgs
            ? new LBfgs(from, new LBfgsOptions { LossNoise = Noise, MaxEvaluations = steps })
            : new CmaEs(from, new CmaEsOptions { Sigma = options.InitStd, Population = options.Population, Seed = seed, MaxEvaluations = checked(steps * options.Population) });
    }

    /// <summary>Losses, and gradients where they are wanted, of points of several runs.</summary>
    private void Evaluate(ReadOnlySpan<float> points, int rows, ReadOnlySpan<int> owners, Span<double> losses, Span<double> gradients)
    {
        if (log.Knows)
        {
            log.Tell(losses);
            log.Tell(gradients);
            return;
        }
        int d = subspace.IntrinsicDim;
        for (int at = 0; at < rows; at += MostPrompts)
        {
            int count = Math.Min(MostPrompts, rows - at);
            float[] scale = new float[count];
            for (int r = 0; r < count; r++)
                scale[r] = scales[owners[at + r]];
            using var prompts = new IntrinsicPrompts(subspace, points.Slice(at * d, count * d), scale);
            _loss.Clear();
            for (int r = 0; r < count; r++)
            {
                TrainingRow run = runs[owners[at + r]];
                for (int e = 0; e < run.Train.Count; e++)
                    _loss.Add(run.Train, e, r, r);
            }
            _loss.Run(prompts.Table, gradients.IsEmpty ? default : prompts.Gradients);
            for (int r = 0; r < count; r++)
                losses[at + r] = _loss.Losses[r];
            if (gradients.IsEmpty)
                continue;
            prompts.TakeGradients();
            for (int r = 0; r < count; r++)
            {
                float[] gradient = prompts.Parameters(r)[0].Gradient.ToArray<float>();
                for (int k = 0; k < d; k++)
                    gradients[((at + r) * d) + k] = gradient[k];
            }
        }
        log.Add(losses);
        log.Add(gradients);
    }

    /// <summary>Scores what has improved since the last time.</summary>
    private void Select(SearchOptimizer[] searches, VectorOutcome[] best, double[] seen, long turn, TrainingCurves curves)
    {
        int[] better = [.. Enumerable.Range(0, searches.Length).Where(i => searches[i].BestLoss < seen[i])];
        if (better.Length == 0)
            return;
        float[][] vectors = [.. better.Select(i => searches[i].Best.ToArray().Select(v => (float)v).ToArray())];
        double[] scores = new double[better.Length];
        if (log.Knows)
            log.Tell(scores);
        else
        {
            Score(better, vectors, scores);
            log.Add(scores);
        }
        for (int row = 0; row < better.Length; row++)
        {
            int i = better[row];
            seen[i] = searches[i].BestLoss;
            curves.AddDev(i, turn, scores[row]);
            // As in training: the first of equal scores stays, and without a score the latest counts.
            if (double.IsNaN(best[i].Dev) || scores[row] > best[i].Dev)
                best[i] = new VectorOutcome(vectors[row], scores[row]);
        }
    }

    /// <summary>Dev scores of vectors, one per run; NaN where a run has no dev split.</summary>
    private void Score(int[] owners, float[][] vectors, double[] scores)
    {
        Array.Fill(scores, double.NaN);
        using var prompts = new IntrinsicPrompts(subspace, vectors.SelectMany(v => v).ToArray(), [.. owners.Select(i => scales[i])]);
        EvaluationJob[] jobs = [.. owners.Select((i, row) => (Run: runs[i], Row: row)).Where(x => x.Run.Dev is not null).Select(x => new EvaluationJob(x.Run.Dev!, x.Row))]; // the null ones are left out
        if (jobs.Length == 0)
            return;
        IReadOnlyList<EvaluationResult> results = evaluator.Evaluate(jobs, prompts.Table, evaluation);
        for (int j = 0; j < jobs.Length; j++)
            scores[jobs[j].Prompt] = results[j].Score;
    }
}
