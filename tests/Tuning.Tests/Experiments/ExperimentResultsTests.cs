using IptNative.Tuning.Experiments;
using IptNative.Tuning.Reports;
using Xunit;

namespace IptNative.Tuning.Tests.Experiments;

/// <summary>The paper's measures on scores small enough to check by hand.</summary>
public sealed class ExperimentResultsTests
{
    // Sums of a few fractions: rounding errors only.
    private const double Tolerance = 1e-12;

    /// <summary>Scores by question and task; every seed has the same, save where a deviation is given.</summary>
    private sealed class Scorer(Func<Use, double> score, ExperimentPlan plan) : IJobRunner
    {
        private readonly ILookup<string, Use> _uses = plan.Uses.ToLookup(u => u.Job);

        public IReadOnlyList<JobResult> Run(JobBatch batch, JobContext context, CancellationToken cancel) =>
            [.. batch.Jobs.Select(j => new JobResult
            {
                Scores = new Dictionary<string, double>
                {
                    [JobResult.Test] = _uses[j.Key].Any() ? score(_uses[j.Key].First()) : 0,
                    [JobResult.TestWithName] = 0.3,
                    [JobResult.Majority] = 0.25,
                },
            })];

        public StepCost? Measure(JobBatch batch, CancellationToken cancel) => null;

        public void Dispose()
        {
        }
    }

    private static ExperimentResults Measure(FakeGym gym, ExperimentConfig config, Func<Use, double> score)
    {
        (ExperimentPlan plan, ExperimentData data) = gym.Plan(config);
        using JobStore store = JobStore.Open(gym.Out);
        using var runner = new Scorer(score, plan);
        ExperimentRun.Execute(plan, store, runner, _ => { }, CancellationToken.None);
        ExperimentResults results = ExperimentResults.Collect(plan, store, data);
        ExperimentReport.Write(gym.Out, results, store, data);
        return results;
    }

    private static Summary Row(ExperimentResults results, Study study, int dI, string group = ExperimentResults.AllTasks) =>
        results.Summaries.Single(s => s.Study == study && s.Setting.Length == 0 && s.DI == dI && s.Group == group);

    [Fact]
    public void RatiosAreMeansOverTasksAndZeroDenominatorsAreCounted()
    {
        using var gym = new FakeGym("ratios");
        // Held out: taste and last. Prompt tuning: 0.8 and 0; IST: 0.4 and 0.2 at seed 0, 0.6 and 0.2 at seed 1.
        ExperimentResults results = Measure(gym, gym.Config(), u => u.Study switch
        {
            Study.Untuned => 0.1,
            Study.PromptTuning => u.Task == "last" ? 0 : u.Draw == "21" ? 0.5 : 0.8,
            Study.TrainOther => 0.25,
            Study.TestIst => u.Task == "last" ? 0.2 : u.Seed == 0 ? 0.4 : 0.6,
            _ => 0.8,
        });
        Summary ist = Row(results, Study.TestIst, 2);
        Assert.Equal(0.35, ist.EAbs, Tolerance); // (0.5 + 0.2) / 2: the task with a zero denominator stays
        Assert.Equal(0.625, ist.ERel, Tolerance); // 0.5 / 0.8 alone
        Assert.Equal((2, 0, 1, 0), (ist.Tasks, ist.Missing, ist.ZeroDenominators, ist.NoDenominators));
        Assert.Equal(Math.Sqrt(2) * 0.125, ist.ERelDeviation, Tolerance); // of 0.5 and 0.75
        // The other draw is measured against prompt tuning on the other draw.
        Assert.Equal(0.5, Row(results, Study.TrainOther, 5).ERel, Tolerance);
        Assert.Equal((1, 1), (Row(results, Study.TestIst, 2, "cls").Tasks, Row(results, Study.TestIst, 2, "non-cls").Tasks));
        Assert.True(double.IsNaN(Row(results, Study.TestIst, 2, "non-cls").ERel));
        // Prompt tuning (0.8) beats 0.25 and 0.1 on all tasks but one.
        Assert.Equal(new Conclusiveness(8, 7), results.Conclusive);
        Assert.True(results.Conclusive.IsConclusive);
        Assert.All(results.Summaries, s => Assert.Null(s.ERelFineTuning));
        Stability sd = results.StabilityRows.Single(s => s.Study == Study.TestIst);
        Assert.Equal((2, 2), (sd.Runs, sd.Tasks));
        Assert.Equal(Math.Sqrt(2) * 0.1 / 2, sd.Deviation, Tolerance); // sd of 0.4 and 0.6 is 0.1 sqrt(2); of 0.2 twice it is 0
    }

    [Fact]
    public void WhatBeatsNothingIsInconclusive()
    {
        using var gym = new FakeGym("inconclusive");
        ExperimentResults results = Measure(gym, gym.Config(), u => u.Study == Study.Untuned ? 0.1 : u.Study == Study.PromptTuning && FakeGym.Train.Take(4).Contains(u.Task) ? 0.9 : 0.2);
        Assert.Equal(new Conclusiveness(8, 4), results.Conclusive);
        Assert.False(results.Conclusive.IsConclusive);
        Assert.Contains("INCONCLUSIVE: prompt tuning beats both the majority label and the untuned model on 4 of 8 tasks", File.ReadAllText(Path.Combine(gym.Out, "report.html")), StringComparison.Ordinal);
    }

    [Fact]
    public void ScoresWithoutAValueAreCountedApart()
    {
        using var gym = new FakeGym("nan");
        ExperimentResults results = Measure(gym, gym.Config(), u => u is { Study: Study.TestIst, Task: "taste" } ? double.NaN : 0.5);
        Summary ist = Row(results, Study.TestIst, 5);
        Assert.Equal((1, 1, 0, 1), (ist.Tasks, ist.Missing, ist.ZeroDenominators, ist.NoDenominators));
        Assert.Equal(1, ist.ERel, Tolerance);
        Assert.Contains("the metric has no value", File.ReadAllText(Path.Combine(gym.Out, "scores.csv")), StringComparison.Ordinal);
    }

    [Fact]
    public void FineTuningScoresComeFromAFile()
    {
        using var gym = new FakeGym("fine");
        string csv = Path.Combine(gym.Folder, "ft.csv");
        File.WriteAllText(csv, "task,score\ntaste,0.8\n");
        ExperimentConfig config = gym.Config("\"fine_tuning_scores\": \"ft.csv\"");
        ExperimentResults results = Measure(gym, config, _ => 0.4);
        Summary ist = Row(results, Study.TestIst, 2);
        Assert.Equal((0.5, 1), (ist.ERelFineTuning, ist.FineTuningTasks));
        foreach ((string line, string expected) in ((string, string)[])[("tste,0.5", "the nearest is 'taste'"), ("taste,80", "a score from 0 to 1"), ("taste", "expected a task, a comma"), ("taste,0.1\ntaste,0.2", "has a score already")])
        {
            File.WriteAllText(csv, line + "\n");
            // By the plan already, not after the hours that the report needs.
            InvalidDataException e = Assert.Throws<InvalidDataException>(() => gym.Plan(config));
            Assert.StartsWith($"{csv}, line ", e.Message, StringComparison.Ordinal);
            Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        }
        File.Delete(csv);
        Assert.Contains("there is no such file", Assert.Throws<FileNotFoundException>(() => gym.Plan(config)).Message, StringComparison.Ordinal);
    }
}
