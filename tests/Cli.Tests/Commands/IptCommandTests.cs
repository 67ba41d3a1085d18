using System.CommandLine;
using IptNative.Cli.Commands;
using IptNative.Cli.Terminal;
using IptNative.Tuning.Experiments;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

/// <summary>The command around a runner that scores everything alike: parse, plan, run, report. What a runner does is tested elsewhere.</summary>
public sealed class IptCommandTests
{
    private static readonly string Out = Path.Combine(AppContext.BaseDirectory, "ipt-command");

    private sealed class Flat(StepCost cost) : IJobRunner
    {
        public IReadOnlyList<JobResult> Run(JobBatch batch, JobContext context, CancellationToken cancel) =>
            [.. batch.Jobs.Select(j => new JobResult { Scores = new Dictionary<string, double> { [JobResult.Test] = j.Kind == JobKind.Untuned ? 0 : 0.5, [JobResult.Majority] = 0.1 } })];

        public StepCost? Measure(JobBatch batch, CancellationToken cancel) => cost;

        public void Dispose()
        {
        }
    }

    private static int Run(StepCost cost, params string[] arguments)
    {
        var root = new RootCommand();
        root.Subcommands.Add(IptCommand.Create((_, _) => new Flat(cost)));
        return root.Parse(["ipt", Path.Combine(CliProgram.Root, "examples", "ipt-smoke.json"), .. arguments]).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
    }

    [Fact]
    public void PlansRunsAndGoesOn()
    {
        if (Directory.Exists(Out)) Directory.Delete(Out, recursive: true);
        var cheap = new StepCost(1e-9, 1e-9);
        Assert.Equal(ExitCode.Done, Run(cheap, "--plan", "--out", Out));
        Assert.False(File.Exists(Path.Combine(Out, "report.html")));
        Assert.Equal(ExitCode.Done, Run(cheap, "--out", Out, "--jobs", "5"));
        string report = File.ReadAllText(Path.Combine(Out, "report.html"));
        Assert.Equal(ExitCode.Done, Run(cheap, "--out", Out));
        Assert.Equal(report, File.ReadAllText(Path.Combine(Out, "report.html")));
    }

    [Fact]
    public void OverTheBudgetIsRefusedWhereItIsAskedFor()
    {
        string folder = Out + "-budget";
        var dear = new StepCost(1, 1);
        Assert.Equal(ExitCode.Failed, Run(dear, "--out", folder, "--set", "refuse_over_budget=true"));
        Assert.Equal(ExitCode.Usage, Run(dear, "--out", folder, "--set", "d_ii=[1]"));
        Assert.False(File.Exists(Path.Combine(folder, "report.html")));
    }

    [Theory]
    [InlineData(null, "?")]
    [InlineData(59.6, "0:01:00")]
    [InlineData(3725.0, "1:02:05")]
    [InlineData(90061.0, "1.01:01:01")]
    public void TimesAreReadable(double? seconds, string expected) => Assert.Equal(expected, PlanTable.Time(seconds));
}
