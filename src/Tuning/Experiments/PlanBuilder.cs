// Builds the jobs of a plan: the questions first, then the jobs that they need. Deliberately the only place that knows what a result depends on.
using System.Security.Cryptography;
using System.Text;
using IptNative.Kernels.Devices;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Experiments;

/// <summary>Collects jobs (each once, by key) and what they are for.</summary>
internal sealed class PlanBuilder(ExperimentConfig config, ExperimentData data, ExperimentModel model, ExperimentSplit split)
{
    // Part of every hash: to be raised when a job of the same options gives another result.
    private const int HashVersion = 1;

    private readonly Dictionary<string, Job> _jobs = new(StringComparer.Ordinal);
    private readonly List<Job> _order = [];
    private readonly List<Use> _uses = [];
    private readonly List<string> _notes = [];

    private readonly string _draw = $"{config.Data.Draw}";
    private readonly string _other = $"{config.Data.OtherDraw}";

    /// <summary>One way through the method: on which tasks, draws and length, and as which setting of the report.</summary>
    private sealed record Flow(string Setting, string Reference, List<string> Train, List<string> Test, string Draw, int Length, IReadOnlyList<int> DI);

    public ExperimentPlan Build()
    {
        ChallengeSection ask = config.Challenges;
        var main = new Flow("", "", [.. split.Train], [.. split.Test], _draw, config.PromptLength, config.DI);
        foreach (string task in main.Train.Concat(main.Test))
        {
            var sample = new TaskSample(task, _draw);
            AddUse(main, Study.Untuned, SubspaceMethod.Msf, 0, sample, 0, Untuned(sample));
        }
        TunePrompts(main);

        List<string> others = ask.OtherData ? WithDraw(main.Train, config.Data.OtherDraw, "unseen-data challenge") : [];
        if (ask.OtherDataReference) TunePrompts(main with { Train = others, Test = [], Draw = _other });
        foreach (int dI in config.DI) Ask(main, SubspaceMethod.Msf, dI, ask, others);
        foreach (SubspaceMethod method in config.Baselines.Subspaces)
        {
            foreach (int dI in config.Baselines.DI.Count > 0 ? config.Baselines.DI : config.DI)
            {
                // Centred prompts of n tasks span at most n - 1 directions.
                if (method == SubspaceMethod.Pca && dI > main.Train.Count - 1)
                    _notes.Add($"PCA subspace at d_I {dI} left out: {main.Train.Count} training prompts have {main.Train.Count - 1} principal components.");
                else
                    Ask(main, method, dI, ask with { SameData = false, Reconstruction = ask.Reconstruction && method == SubspaceMethod.Pca, UnseenReconstruction = ask.UnseenReconstruction && method == SubspaceMethod.Pca }, others);
            }
        }
        if (ask.StageTwo) StageTwo(main, config.Seeds);
        if (main.Test.Count > 0) Stability(main);
        Ablations(main);
        return new ExperimentPlan(config, split, _order, _uses, _notes);
    }

    private void Ablations(Flow main)
    {
        AblationSection vary = config.Ablations;
        ChallengeSection unseenTasks = config.Challenges with { Reconstruction = false, UnseenReconstruction = false, SameData = false, OtherData = false, UnseenTasks = true };
        ChallengeSection all = unseenTasks with { Reconstruction = true, SameData = true };
        // All tasks are the experiment itself.
        foreach (int percent in vary.TrainTasks.Where(p => p < 100).Order())
        {
            List<string> some = Subset(main.Train, percent);
            if (some.Count < 2) _notes.Add($"Ablation of training tasks at {percent} % left out: that is {some.Count} of {main.Train.Count} tasks, at least 2 are needed.");
            else Ask(main with { Setting = $"{percent} % of tasks", Train = some }, SubspaceMethod.Msf, config.AblationDI, unseenTasks, []);
        }
        if (vary.ShotsDraw is { } extra)
        {
            var more = main with
            {
                Setting = "2K shots",
                Reference = "2K shots",
                Draw = $"{_draw}+{extra}",
                DI = [config.AblationDI],
                Train = WithDraw(main.Train, extra, "2K shots"),
                Test = WithDraw(main.Test, extra, "2K shots"),
            };
            if (more.Train.Count < 2) _notes.Add($"2K shots left out: {more.Train.Count} training tasks have the draw {extra}, at least 2 are needed.");
            else Again(more, all);
        }
        foreach (int length in vary.PromptLengths.Where(l => l != config.PromptLength))
        {
            if ((long)length * model.DModel < config.AblationDI)
                throw new InvalidDataException($"{config.Name}: prompt length {length}; found {length} * d_model {model.DModel} numbers, fewer than d_i {config.AblationDI}. Lower ablations.d_i, or leave this length out.");
            Again(main with { Setting = $"prompt length {length}", Reference = $"prompt length {length}", Length = length, DI = [config.AblationDI] }, all);
        }

        void Again(Flow flow, ChallengeSection ask)
        {
            TunePrompts(flow);
            foreach (int dI in flow.DI) Ask(flow, SubspaceMethod.Msf, dI, ask, []);
        }
    }

    private void TunePrompts(Flow flow)
    {
        foreach (TaskSample sample in flow.Train.Concat(flow.Test).Select(t => new TaskSample(t, flow.Draw)))
        {
            foreach (int seed in config.Seeds) AddUse(flow, Study.PromptTuning, SubspaceMethod.Msf, 0, sample, seed, Prompt(sample, flow.Length, seed));
        }
    }

    /// <summary>Makes one subspace and asks the questions that are switched on.</summary>
    private void Ask(Flow flow, SubspaceMethod method, int dI, ChallengeSection ask, List<string> others)
    {
        bool any = (ask.Reconstruction || ask.SameData) || (ask.OtherData && others.Count > 0) || ((ask.UnseenTasks || ask.UnseenReconstruction) && flow.Test.Count > 0);
        if (!any) return;
        string space = Space(flow, method, dI);
        int trainSeeds = ask.TrainTaskSeeds > 0 ? ask.TrainTaskSeeds : config.Seeds.Count;
        foreach (TaskSample sample in flow.Train.Select(t => new TaskSample(t, flow.Draw)))
        {
            if (ask.Reconstruction) AddUse(flow, Study.TrainMsf, method, dI, sample, 0, Reconstruct(space, sample, flow.Length));
            if (ask.SameData) Tune(Study.TrainSame, sample, config.Seeds.Take(trainSeeds));
        }
        if (ask.OtherData)
        {
            foreach (string task in others) Tune(Study.TrainOther, new TaskSample(task, _other), config.Seeds.Take(trainSeeds));
        }
        foreach (TaskSample sample in flow.Test.Select(t => new TaskSample(t, flow.Draw)))
        {
            if (ask.UnseenReconstruction) AddUse(flow, Study.TestMsf, method, dI, sample, 0, Reconstruct(space, sample, flow.Length));
            if (ask.UnseenTasks) Tune(Study.TestIst, sample, config.Seeds);
        }

        void Tune(Study study, TaskSample sample, IEnumerable<int> seeds)
        {
            foreach (int seed in seeds) AddUse(flow, study, method, dI, sample, seed, Ist(space, sample, flow.Length, seed));
        }
    }

    private void StageTwo(Flow flow, IReadOnlyList<int> seeds)
    {
        string space = Space(flow, SubspaceMethod.Msf, config.AblationDI);
        foreach (TaskSample sample in flow.Test.Select(t => new TaskSample(t, flow.Draw)))
        {
            foreach (int seed in seeds)
                AddUse(flow, Study.StageTwo, SubspaceMethod.Msf, config.AblationDI, sample, seed, Prompt(sample, flow.Length, seed, Ist(space, sample, flow.Length, seed)));
        }
    }

    private void Stability(Flow main)
    {
        IReadOnlyList<int> seeds = config.Ablations.StabilitySeeds(config.Seeds);
        if (seeds.Count < 2) return;
        Flow flow = main with { Setting = "stability" };
        string? space = config.Challenges.UnseenTasks || config.Challenges.StageTwo ? Space(flow, SubspaceMethod.Msf, config.AblationDI) : null;
        foreach (TaskSample sample in flow.Test.Select(t => new TaskSample(t, flow.Draw)))
        {
            foreach (int seed in seeds)
            {
                AddUse(flow, Study.PromptTuning, SubspaceMethod.Msf, 0, sample, seed, Prompt(sample, flow.Length, seed));
                if (space is not null) AddUse(flow, Study.TestIst, SubspaceMethod.Msf, config.AblationDI, sample, seed, Ist(space, sample, flow.Length, seed));
            }
        }
        if (config.Challenges.StageTwo) StageTwo(flow, seeds);
    }

    private List<string> WithDraw(List<string> tasks, int draw, string what)
    {
        List<string> present = [];
        foreach (string task in tasks)
        {
            if (data.WhyMissing(task, draw) is { } why) _notes.Add($"{what}: {task} left out ({why}).");
            else present.Add(task);
        }
        return present;
    }

    /// <summary>Nested subsets: 20 % is a part of 40 %. The order is a hash of the names, so that it does not change with the list's.</summary>
    private static List<string> Subset(List<string> tasks, int percent)
    {
        int count = (int)Math.Round(tasks.Count * percent / 100.0, MidpointRounding.AwayFromZero);
        HashSet<string> chosen = [.. tasks.OrderBy(t => Sha256(t), StringComparer.Ordinal).Take(count)];
        return [.. tasks.Where(chosen.Contains)];
    }

    private string Untuned(TaskSample sample)
    {
        double positions = data.MeanPositions(sample);
        // With and without the task's name.
        return Add($"untuned/{sample.Task}", JobKind.Untuned, [sample], [], [Lengths(), Evaluation()], evaluate: 2 * data.Load(sample).Test.Count * positions);
    }

    private string Prompt(TaskSample sample, int length, int seed, string? init = null)
    {
        TrainingConfig training = config.PromptTuning.Training;
        double positions = data.MeanPositions(sample) + length;
        string key = $"{(init is null ? "prompt_tuning" : "stage_two/" + init.Split('/')[1])}/{sample.Task}/{sample.Draw}/{Length(length)}seed{seed}";
        // A given start leaves nothing of the initialiser to depend on; the length is the job's own.
        PromptTuningSection section = config.PromptTuning with { Prompt = init is null ? config.PromptTuning.Prompt with { Length = length } : new() { Length = length, Init = PromptInit.Uniform } };
        return Add(key, JobKind.PromptTuning, [sample], init is null ? [] : [new JobInput(JobNames.Init, init)],
            [Options("prompt_tuning", section, (x, v) => x.Visit(v)), Evaluation()], length, seed, train: (double)training.Steps * training.BatchSize * training.GradientAccumulation * positions, evaluate: EvaluateLines(training, sample) * positions);
    }

    private string Space(Flow flow, SubspaceMethod method, int dI)
    {
        TaskSample[] samples = [.. flow.Train.Select(t => new TaskSample(t, flow.Draw))];
        IReadOnlyList<int> seeds = config.Msf.BestPrompt ? config.Seeds : [config.Seeds[0]];
        JobInput[] prompts = [.. samples.SelectMany(s => seeds.Select(seed => new JobInput(JobNames.Prompt, Prompt(s, flow.Length, seed))))];
        TrainingConfig training = config.Msf.Training;
        double positions = samples.Average(data.MeanPositions) + flow.Length;
        bool trained = method == SubspaceMethod.Msf && config.Msf.LanguageModelLoss;
        string some = flow.Train.Count == split.Train.Count ? "" : $"{flow.Train.Count}tasks-";
        return Add($"subspace/{method.Name()}-d{dI}/{some}{flow.Draw}{Length(flow.Length).TrimEnd('/')}", JobKind.Subspace, samples, prompts, [Options("msf", config.Msf, (x, v) => x.Visit(v)), ("method", method.Name()), Evaluation()],
            flow.Length, config.Msf.Seed, dI, method,
            trained ? (double)training.Steps * training.BatchSize * training.GradientAccumulation * positions : 0,
            trained ? samples.Sum(s => training.Evaluations() * Dev(s) * (data.MeanPositions(s) + flow.Length)) : 0);
    }

    private string Reconstruct(string space, TaskSample sample, int length)
    {
        IReadOnlyList<int> seeds = config.Msf.BestPrompt ? config.Seeds : [config.Seeds[0]];
        JobInput[] inputs = [new JobInput(JobNames.Subspace, space), .. seeds.Select(seed => new JobInput(JobNames.Prompt, Prompt(sample, length, seed)))];
        return Add($"reconstruction/{Name(space)}/{sample.Task}/{sample.Draw}", JobKind.Reconstruction, [sample], inputs, [("best_prompt", $"{config.Msf.BestPrompt}"), Lengths(), Evaluation()],
            length, 0, _jobs[space].DI, _jobs[space].Subspace, evaluate: data.Load(sample).Test.Count * (data.MeanPositions(sample) + length));
    }

    private string Ist(string space, TaskSample sample, int length, int seed)
    {
        (IstSection ist, TrainingConfig training) = (config.Ist, config.Ist.Training);
        double positions = data.MeanPositions(sample) + length, lines = data.Load(sample).Train.Count;
        (double train, double forward) = ist.Search switch
        {
            IstSearch.Lbfgs => (training.Steps * lines, 0.0),
            IstSearch.CmaEs => (0.0, training.Steps * ist.Population * lines),
            _ => ((double)training.Steps * training.BatchSize * training.GradientAccumulation, 0.0),
        };
        return Add($"ist/{Name(space)}/{sample.Task}/{sample.Draw}/seed{seed}", JobKind.Ist, [sample], [new JobInput(JobNames.Subspace, space)], [Options("ist", ist.Effective(), (x, v) => x.Visit(v)), Evaluation()],
            length, seed, _jobs[space].DI, _jobs[space].Subspace, ist.Restarts * train * positions, ((ist.Restarts * forward) + EvaluateLines(training, sample)) * positions);
    }

    /// <summary>A subspace's key without its kind and without further slashes, for the keys of what is built on it.</summary>
    private static string Name(string space) => space["subspace/".Length..].Replace('/', '-');

    private string Length(int length) => length == config.PromptLength ? "" : $"p{length}/";

    private double EvaluateLines(TrainingConfig training, TaskSample sample) => (training.Evaluations() * Dev(sample)) + data.Load(sample).Test.Count;

    private int Dev(TaskSample sample) => data.Load(sample).Dev.Count;

    private void AddUse(Flow flow, Study study, SubspaceMethod method, int dI, TaskSample sample, int seed, string job)
    {
        string reference = study == Study.TrainOther && !config.Challenges.OtherDataReference ? _draw : sample.Draw;
        _uses.Add(new Use(study, flow.Setting, method, dI, sample.Task, sample.Draw, seed, job, flow.Reference, reference));
    }

    private string Add(string key, JobKind kind, IReadOnlyList<TaskSample> samples, JobInput[] inputs, IReadOnlyList<(string Name, string Text)> options,
        int length = 0, int seed = 0, int dI = 0, SubspaceMethod subspace = SubspaceMethod.Msf, double train = 0, double evaluate = 0)
    {
        if (_jobs.ContainsKey(key)) return key;
        var what = new StringBuilder($"version={HashVersion}\nkind={kind.Name()}\nmodel={model.Hash}\nprompt_length={length}\nd_i={dI}\nseed={seed}\ntask_prefix={config.Data.TaskPrefix}\n");
        // Scores are made in float32 always: what is not trained does not depend on these. The defaults are left out, as results from before there was a choice have them.
        if (kind is JobKind.PromptTuning or JobKind.Ist || (kind == JobKind.Subspace && subspace == SubspaceMethod.Msf))
        {
            if (config.Compute != ComputeType.F32) what.Append("compute=").Append(config.Compute).Append('\n');
            if (config.Tape != TapeType.F32) what.Append("tape=").Append(config.Tape).Append('\n');
        }
        foreach ((string name, string text) in options) what.Append(name).Append('=').Append(text).Append('\n');
        foreach (TaskSample sample in samples) what.Append("data:").Append(data.Fingerprint(sample)).Append('\n');
        foreach (JobInput input in inputs) what.Append(input.Role).Append(':').Append(_jobs[input.Key].Hash).Append('\n');
        var job = new Job
        {
            Key = key,
            Kind = kind,
            Samples = samples,
            PromptLength = length,
            DI = dI,
            Subspace = subspace,
            Seed = seed,
            Inputs = inputs,
            Hash = Sha256(what.ToString()),
            Stage = inputs.Length == 0 ? 0 : 1 + inputs.Max(i => _jobs[i.Key].Stage),
            TrainPositions = Math.Round(train),
            EvaluatePositions = Math.Round(evaluate),
        };
        _jobs.Add(key, job);
        _order.Add(job);
        return key;
    }

    /// <summary>A section's options as text, without those that change only where things lie or how often something is said.</summary>
    private static (string Name, string Text) Options<T>(string name, T section, Func<T, OptionVisitor, T> visit) =>
        (name, string.Join('\n', OptionLister.List(section, visit).Where(o => o.Affects == Affects.Result).Select(o => $"{o.Name}={o.Json}")));

    private (string Name, string Text) Evaluation() => Options("evaluation", config.Evaluation, (x, v) => x.Visit(v));

    /// <summary>Where nothing is trained, inputs and answers are still cut, as prompt tuning cuts them.</summary>
    private (string Name, string Text) Lengths() => ("lengths", $"{config.PromptTuning.Training.MaxSourceLength},{config.PromptTuning.Training.MaxTargetLength}");

    private static string Sha256(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
}
