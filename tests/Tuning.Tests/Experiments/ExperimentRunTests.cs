using System.Text;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Reports;
using Xunit;

namespace IptNative.Tuning.Tests.Experiments;

public sealed class ExperimentRunTests
{
    private const string Everything = """
        "baselines": { "random_prompt": true, "pca": true },
        "ablations": { "train_tasks": [34, 67], "shots_draw": 42, "prompt_lengths": [2], "stability_runs": 4, "d_i": 5 },
        "groups": [{ "name": "words only", "tasks": ["reverse", "first", "last"] }]
        """;

    private static readonly string[] Compared = ["report.html", "results.json", "scores.csv", "summaries.csv", "tasks.csv", "stability.csv", "coverage.csv"];

    [Fact]
    public void StoppedThreeTimesItGivesTheSameReport()
    {
        using var whole = new FakeGym("whole");
        using var stopped = new FakeGym("stopped");
        List<string> once = Run(whole, Everything, new Stops());
        List<string> pieces = [];
        foreach (int after in (int[])[2, 5, 7])
        {
            (ExperimentPlan plan, ExperimentData data) = stopped.Plan(stopped.Config(Everything));
            using JobStore store = JobStore.Open(stopped.Out);
            using var runner = new FakeRunner(data) { StopAfter = after };
            Assert.Throws<OperationCanceledException>(() => ExperimentRun.Execute(plan, store, runner, _ => { }, CancellationToken.None));
            pieces.AddRange(runner.Ran);
        }
        pieces.AddRange(Run(stopped, Everything, new Stops()));
        Assert.Equal(once, pieces);
        foreach (string file in Compared)
            Assert.Equal(File.ReadAllText(Path.Combine(whole.Out, file)), File.ReadAllText(Path.Combine(stopped.Out, file)));
        Assert.Empty(Directory.GetDirectories(Path.Combine(stopped.Out, "working")));
    }

    /// <summary>Each baseline and each ablation is a switch, and what it makes is in tables, files and figures.</summary>
    [Fact]
    public void WhatIsSwitchedOnIsInTheReport()
    {
        using var gym = new FakeGym("switches");
        Run(gym, """
            "baselines": { "random_prompt": true, "random_linear": true, "fastfood": true, "pca": true },
            "ablations": { "train_tasks": [34, 67, 100], "shots_draw": 42, "prompt_lengths": [2], "stability_runs": 4, "d_i": 5 }
            """, new Stops());
        string page = File.ReadAllText(Path.Combine(gym.Out, "report.html")), numbers = File.ReadAllText(Path.Combine(gym.Out, "summaries.csv"));
        foreach (string caption in (string[])["E_rel against d_I, all tasks.", "T_train diff (IST) by subspace.", "T_test (IST) by subspace.", "Intrinsic vectors z at d_I 5 by PCA.", "Number of training tasks.", "Shots.", "Prompt length.", "MSF loss.", "IST loss, unseen tasks."])
            Assert.Contains($"<figcaption><b>{caption}</b>", page, StringComparison.Ordinal);
        foreach (string figure in (string[])["figure 3", "figure 4", "figure 5", "figure 6", "table 4"])
            Assert.Contains($"The paper's {figure}", page.Replace("&#39;", "'", StringComparison.Ordinal), StringComparison.Ordinal);
        foreach (string subspace in (string[])["random Proj_b", "random linear", "Fastfood", "PCA"])
            Assert.Contains($"<td>T_test (IST), {subspace}</td>", page, StringComparison.Ordinal);
        foreach (string row in (string[])["test_ist,,random_prompt,2,all", "test_ist,,random_linear,5,all", "train_diff_ist,,fastfood,5,all", "train_msf,,pca,5,all", "test_ist,34 % of tasks,msf,5,all", "test_ist,67 % of tasks,msf,5,all", "train_msf,2K shots,msf,5,all", "test_ist,prompt length 2,msf,5,all"])
            Assert.Contains($"\n{row},", numbers, StringComparison.Ordinal);
        Assert.DoesNotContain("100 % of tasks", numbers, StringComparison.Ordinal);
        Assert.Equal(["prompt_tuning", "test_ist", "ist_initialised_prompt_tuning"], File.ReadAllLines(Path.Combine(gym.Out, "stability.csv")).Skip(1).Select(l => l.Split(',')[0]).OrderBy(n => n switch { "prompt_tuning" => 0, "test_ist" => 1, _ => 2 }));
        Assert.All(File.ReadAllLines(Path.Combine(gym.Out, "stability.csv")).Skip(1), l => Assert.Equal("4", l.Split(',')[2]));
        // Nothing was measured by fine-tuning: every row says so.
        Assert.All(numbers.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1), l => Assert.Contains(",not measured,0", l, StringComparison.Ordinal));
    }

    [Fact]
    public void NothingRunsTwice()
    {
        using var gym = new FakeGym("twice");
        Assert.NotEmpty(Run(gym, "", new Stops()));
        Assert.Empty(Run(gym, "", new Stops()));
    }

    [Fact]
    public void AChangedOptionRerunsOnlyWhatDependsOnIt()
    {
        using var gym = new FakeGym("changed");
        Run(gym, "", new Stops());
        (ExperimentPlan before, _) = gym.Plan(gym.Config());
        foreach ((string change, string kinds) in ((string, string)[])
            [
                ("ist.training.steps=30", "prompt_tuning,ist"), // stage two starts from IST's prompts
                ("ist.search=lbfgs", "prompt_tuning,ist"),
                ("msf.alpha=2", "prompt_tuning,subspace,reconstruction,ist"),
                ("ist.population=30", ""), // read by cma_es only
                ("side_by_side=3", ""),
                ("ist.training.log_every=3", ""),
                ("name=another", ""),
                ("budget_minutes=3", ""),
            ])
        {
            (ExperimentPlan plan, ExperimentData data) = gym.Plan(gym.Config("", change));
            using JobStore store = JobStore.Open(gym.Out);
            using var runner = new FakeRunner(data);
            ExperimentRun.Execute(plan, store, runner, _ => { }, CancellationToken.None);
            Assert.Equal((change, kinds), (change, string.Join(',', runner.Ran.Select(k => plan[k].Kind).Distinct().Order().Select(k => k.Name()))));
            Assert.All(runner.Ran.Where(k => plan[k].Kind == JobKind.PromptTuning), k => Assert.StartsWith("stage_two/", k, StringComparison.Ordinal));
            // Going back costs nothing: the old results are still there.
            Assert.All(before.Jobs, job => Assert.NotNull(store.Find(job)));
        }
    }

    [Fact]
    public void AChangedExampleRerunsItsTaskAndWhatWasMadeFromIt()
    {
        using var gym = new FakeGym("example");
        Run(gym, "", new Stops());
        string file = Path.Combine(gym.Gym, "taste", $"taste_4_{FakeGym.Draw}_train.tsv");
        File.WriteAllText(file, File.ReadAllText(file).Replace("number 3", "number three", StringComparison.Ordinal));
        List<string> again = Run(gym, "", new Stops());
        Assert.NotEmpty(again);
        Assert.All(again, key => Assert.Contains("/taste", key, StringComparison.Ordinal)); // held out: no subspace was made from it
    }

    [Fact]
    public void ADivergedRunStopsOnlyWhatNeedsIt()
    {
        using var gym = new FakeGym("diverged");
        // One seed of three is made up for by the others; all seeds of a task leave no subspace.
        List<string> one = Run(gym, "", new Stops(j => j.Key == "prompt_tuning/colour/13/seed1"));
        Assert.Contains("subspace/msf-d5/13", one);
        string report = File.ReadAllText(Path.Combine(gym.Out, "report.html"));
        Assert.Contains("loss is NaN at step 7", report, StringComparison.Ordinal);

        using var all = new FakeGym("diverged-all");
        List<string> ran = Run(all, "", new Stops(j => j.Key.StartsWith("prompt_tuning/colour/13/", StringComparison.Ordinal)));
        Assert.DoesNotContain(ran, k => k.StartsWith("subspace/", StringComparison.Ordinal) || k.StartsWith("ist/", StringComparison.Ordinal));
        Assert.Contains("not run: prompt_tuning/colour/13/seed0 failed", File.ReadAllText(Path.Combine(all.Out, "report.html")), StringComparison.Ordinal);
        Assert.Empty(Run(all, "", new Stops()));
    }

    [Fact]
    public void TheSecondProcessIsRefused()
    {
        using var gym = new FakeGym("locked");
        using JobStore first = JobStore.Open(gym.Out);
        IOException e = Assert.Throws<IOException>(() => JobStore.Open(gym.Out));
        Assert.Contains("another process holds it", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ADamagedResultIsNamed()
    {
        using var gym = new FakeGym("damaged");
        Run(gym, "", new Stops());
        string file = Directory.GetFiles(gym.Out, "result.json", SearchOption.AllDirectories).Order(StringComparer.Ordinal).First();
        File.WriteAllText(file, File.ReadAllText(file)[..40]);
        InvalidDataException e = Assert.Throws<InvalidDataException>(() => JobStore.Open(gym.Out));
        Assert.StartsWith($"{file}: opening a finished job; it is damaged", e.Message, StringComparison.Ordinal);
        Assert.EndsWith($"Delete {Path.GetDirectoryName(file)} to run the job again.", e.Message, StringComparison.Ordinal);
        Directory.Delete(Path.GetDirectoryName(file)!, recursive: true);
        Assert.Single(Run(gym, "", new Stops()));
    }

    [Fact]
    public void TheEstimateComesFromAStepAndThenFromFinishedJobs()
    {
        using var gym = new FakeGym("estimate");
        (ExperimentPlan plan, ExperimentData data) = gym.Plan(gym.Config());
        using JobStore store = JobStore.Open(gym.Out);
        Assert.Null(PlanEstimate.Make(plan, store, null).Seconds);
        using var runner = new FakeRunner(data);
        PlanEstimate measured = PlanEstimate.Make(plan, store, runner.Measure(plan.Batches[0], CancellationToken.None));
        Assert.Equal("a measured step", measured.Source);
        Assert.Equal(plan.Jobs.Sum(j => (j.TrainPositions * 1e-4) + (j.EvaluatePositions * 3e-5)), measured.Seconds ?? 0, 6);
        ExperimentRun.Execute(plan, store, runner, _ => { }, CancellationToken.None);
        PlanEstimate after = PlanEstimate.Make(plan, store, null);
        Assert.Equal("finished jobs", after.Source);
        Assert.Equal(0, after.Seconds);
        Assert.All(after.Lines, l => Assert.Equal(l.Jobs, l.Done));
    }

    private sealed record Stops(Func<Job, bool>? Diverges = null);

    private static List<string> Run(FakeGym gym, string more, Stops stops)
    {
        (ExperimentPlan plan, ExperimentData data) = gym.Plan(gym.Config(more));
        using JobStore store = JobStore.Open(gym.Out);
        using var runner = new FakeRunner(data) { Diverges = stops.Diverges ?? (_ => false) };
        ExperimentRun.Execute(plan, store, runner, _ => { }, CancellationToken.None);
        ExperimentResults results = ExperimentResults.Collect(plan, store, data);
        string page = ExperimentReport.Write(gym.Out, results, store, data);
        Assert.True(new UTF8Encoding(false, true).GetString(File.ReadAllBytes(page)).Length > 5000);
        return runner.Ran;
    }
}
