"""What a tired user types: overrides, groups, options and Hydra's own keys."""

from __future__ import annotations

import shlex

import pytest

from tests.bad_input.conftest import Refused

# What is typed, and a part of the line that answers it.
TYPED = r"""
seed=range(0,0)                                 | seed
-m seed=range(0,0)                              | seed=range(0,0)' names no value
-m seed=1,2 method=range(3,3)                   | range(3,3)' names no value
-m seed=1,1                                     | seed
-m seed=foo,2                                   | seed is 'foo'
-m hydra/launcher=submitit_slurm seed=1,2       | needs SLURM
-m hydra.run.dir=x seed=1,2                     | hydra.sweep.dir
-m hydra.output_subdir=.. seed=1,2              | hydra.output_subdir is '..'
hydra.output_subdir=..                          | hydra.output_subdir is '..'
hydra.output_subdir=../x                        | hydra.output_subdir is '../x'
hydra.output_subdir=/tmp/x                      | hydra.output_subdir is '/tmp/x'
hydra.output_subdir=.                           | hydra.output_subdir is '.'
hydra.output_subdir=model                       | hydra.output_subdir is 'model'
hydra.run.dir=/proc/warmup                      | /proc/warmup
hydra.run.dir=.                                 | choose another folder
hydra.run.dir=${nope}                           | nope
hydra/launcher=nope                             | nope
hydra/sweeper=nope                              | nope
hydra/job_logging=nope                          | nope
--cfg=jobb                                      | invalid choice: 'jobb'
--cfg                                           | expected one argument
--info=nope                                     | invalid choice: 'nope'
--package                                       | expected one argument
--experimental-rerun=x.pickle                   | pickle
--config-name=nope                              | nope
--config-dir=/nope                              | /nope
--multirun=3                                    | --multirun
--runs=outputs                                  | no option '--runs=outputs'
--seed=1                                        | no option '--seed=1'
-x                                              | no option '-x'
--cfg=job seed=foo                              | seed is 'foo'
task                                            | cannot read 'task'
=5                                              | given as '=5'
seed==5                                         | cannot read 'seed==5'
'seed=5 6'                                      | seed
'seed=[1'                                       | cannot read
'seed={a:1'                                     | cannot read
"seed='1"                                       | cannot read
'seed=${oc.env:NOPE}'                           | NOPE
'seed=${nope}'                                  | nope
'seed=${seed}'                                  | seed
'seed=${'                                       | cannot read
'seed=???'                                      | seed
seed=null                                       | seed
seed=1.5                                        | seed is 1.5
seed=true                                       | seed
seed=[1]                                        | seed
seed={a:1}                                      | seed
seed=1,2                                        | add -m
seed=-1                                         | seed is -1
seed=99999999999999999999                       | seed is 99999999999999999999
~seed                                           | seed
~task                                           | task
~model.name                                     | model.name
+seed=1                                         | seed
++seed=x                                        | seed
+foo=1                                          | 'foo'
++foo.bar=1                                     | 'foo
foo=1                                           | no key 'foo'
sed=1                                           | did you mean 'seed'
task.foo=1                                      | no key 'task.foo'
model.widht=5                                   | did you mean 'model.width'
model.width=-5                                  | model.width is -5
model.width=65                                  | a multiple of model.heads
model.layers=0                                  | model.layers is 0
model.heads=0                                   | model.heads is 0
model.dropout=2                                 | model.dropout is 2
model.architecture=gpt                          | model.architecture is 'gpt'
model.vocabulary_size=1e3                       | model.vocabulary_size
model.name=                                     | model.name is ''
model.pretrained=                               | model.pretrained is ''
model.revision=x model.pretrained=./none        | none
model=nope                                      | model is 'nope'
model=T5_small                                  | did you mean 't5_small'
trainer=nope                                    | trainer is 'nope'
experiment=nope                                 | experiment is 'nope'
paper=nope                                      | paper is 'nope'
method=nope                                     | method is 'nope'
method=sft method.num_samples=4                 | it belongs to method=warmup
method.num_samples=0                            | method.num_samples is 0
method.num_samples=1e99                         | method.num_samples
method.max_warmup_tokens=99999999               | method.max_warmup_tokens is 99999999
method.objective=ELBO                           | did you mean 'elbo'
trainer.learning_rate=abc                       | trainer.learning_rate is 'abc'
trainer.learning_rate=1e400                     | trainer.learning_rate
trainer.learning_rate=nan                       | trainer.learning_rate is nan
trainer.learning_rate=-1                        | trainer.learning_rate is -1
trainer.epochs=nan trainer.max_steps=-1         | trainer.epochs is nan
trainer.epochs=inf trainer.max_steps=-1         | trainer.epochs is inf
trainer.max_steps=0                             | trainer.max_steps is 0
trainer.max_steps=99999999999999999999          | trainer.max_steps is 99999999999999999999
trainer.max_steps=2000000000                    | -1 to 1000000000
trainer.max_steps=1e9                           | trainer.max_steps
trainer.lr_warmup_steps=99999999999999999999    | trainer.lr_warmup_steps
trainer.logging_steps=99999999999999999999      | trainer.logging_steps
trainer.optimizer=adam                          | did you mean 'adamw'
trainer.batch_size=0                            | trainer.batch_size is 0
trainer.precision=fp16                          | trainer.precision is 'fp16'
data.max_train_examples=99999999999999999999    | data.max_train_examples
data.max_test_examples=0                        | data.max_test_examples is 0
data=local task=custom                          | data.train is not set
data=local task=custom data.train=nope.jsonl    | data.train is 'nope.jsonl'
data=local task=custom data.train=outputs       | this is a folder
data=hub task=custom                            | data.train.path is not set
data=nope                                       | data is 'nope'
data.kind=hub                                   | data.kind is 'hub'
task=translation task.source_language=xx        | task.source_language is 'xx'
task=translation task.target_language=          | task.target_language is ''
task=yes_no task.metrics=[bleu]                 | task.metrics is 'bleu'
task.metrics=[]                                 | task.metrics is []
task.metrics=bleu                               | task.metrics
task.metrics=[bleu,bleu]                        | twice
task.selection_metric=nope                      | task.selection_metric is 'nope'
"task.source_template='{'"                      | task.source_template
"task.source_template='{a!r}'"                  | only plain placeholders
"task.source_template='{a.__class__}'"          | only plain placeholders
task.source_template=hello                      | task.source_template is 'hello'
task.name=nope                                  | task.name is 'nope'
"task.source_template='${oc.env:HOME}{source}'" | saved with the model
task.max_source_tokens=1                        | task.max_source_tokens is 1
evaluation.num_beams=0                          | evaluation.num_beams is 0
evaluation.substituted_examples=-1              | evaluation.substituted_examples is -1
evaluation.comet_model=                         | evaluation.comet_model is ''
predictions=a.txt                               | predictions is 'a.txt'; allowed: with run=score only
predictions=                                    | predictions is ''
references=a.txt                                | references is 'a.txt'
sources=a.txt run=evaluate checkpoint=x         | sources is 'a.txt'
inputs=a.txt                                    | inputs is 'a.txt'
checkpoint=x                                    | checkpoint is 'x'
checkpoint=x run=tables                         | checkpoint is 'x'
run=score                                       | predictions is not set
run=score predictions=nope.txt                  | predictions is 'nope.txt'
run=predict checkpoint=x                        | inputs is not set
run=predict inputs=x                            | checkpoint is not set
run=evaluate                                    | checkpoint is not set
run=evaluate checkpoint=nope                    | nope
run=evaluate checkpoint=./nope                  | checkpoint is './nope'
run=evaluate checkpoint=outputs/earlier         | is not a model checkpoint
run=tables runs=nope                            | runs is 'nope'
run=tables runs=[]                              | runs is []
run=tables runs=5                               | runs
run=table                                       | did you mean 'tables'
run=wandb_report                                | wandb_report
run=wandb_report logger.mode=offline            | logger.mode is 'offline'
logger=wandb logger.mode=off                    | logger.mode is 'off'
logger.entity=5                                 | logger.entity is '5'
logger.entity=a/b                               | logger.entity is 'a/b'
logger.project=a/b                              | logger.project is 'a/b'
logger.tags=x                                   | logger.tags
logger=wandb 'logger.project=${oc.env:HOME}'    | since trackers show it
device=gpu                                      | device is 'gpu'
device=cuda                                     | device is 'cuda'
model.lora.rank=8                               | model.lora.rank is 8
model=scratch_t5 model.width=65536 data.train_size=20 | million parameters
model=scratch_llama model.layers=256 model.width=65536 data.train_size=20 | GB
"""
ROWS = [tuple(part.strip() for part in row.rsplit(" | ", 1)) for row in TYPED.strip().splitlines()]


@pytest.mark.parametrize(("typed", "part"), ROWS, ids=[row[0] for row in ROWS])
def test_a_mistake_costs_one_line(typed: str, part: str, refused: Refused) -> None:
    assert part in refused(*shlex.split(typed))


def test_a_value_of_ten_megabytes_is_not_read_out(refused: Refused) -> None:
    long = "x" * 10_000_000
    line = refused(f"seed={long}")
    assert "whole number" in line and "characters ..." in line
    assert "allowed" in refused(f"model.{long}=1")
